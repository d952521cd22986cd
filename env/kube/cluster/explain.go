package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"sigs.k8s.io/kind/pkg/exec"
)

// known are troubles that somebody can do something about, by what engines and nodes say.
var known = []struct {
	says  *regexp.Regexp
	means string
}{
	{regexp.MustCompile(`failed to pull image "([^"]+)"`), "the node image $1 is not there and cannot be pulled: name one that is there with --node-image or $$" + EnvImage + "; hack/kind-offline/up makes one without a registry"},
	{regexp.MustCompile(`:(\d+)(?: failed)?: (?:port is already allocated|bind: address already in use)`), "port $1 of this machine, which the configuration asks for, is taken: change extraPortMappings or apiServerPort"},
	{regexp.MustCompile(`port is already allocated|address already in use`), "a port that the configuration asks for is taken: change extraPortMappings or apiServerPort"},
	{regexp.MustCompile(`no space left on device`), "the disk is full: a cluster needs about 2 GB; `docker system prune` frees what engines keep"},
	{regexp.MustCompile(`too many open files`), "the kernel's limits are too low for another node: raise them with `sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288`"},
	{regexp.MustCompile(`could not find a log line that matches`), "the system of a node did not start: this host may not allow privileged containers, or need cgroups of version 2"},
	{regexp.MustCompile(`The container name "/?([^"]+)" is already in use`), "a container is called $1 already, which a node has to be called"},
	{regexp.MustCompile(`command not found|executable file not found`), "the image is no node image of kind"},
}

// explainedError says in one sentence what went wrong and what can be done; what kind said is wrapped.
type explainedError struct {
	text string
	err  error
}

func (e *explainedError) Error() string { return e.text }
func (e *explainedError) Unwrap() error { return e.err }

// explain makes what kind says one sentence. kind's errors name the command that failed; why it failed is in the command's output, which they do not show.
func explain(err error) error {
	if err == nil {
		return nil
	}
	said := err.Error()
	var run *exec.RunError
	if errors.As(err, &run) {
		said += "\n" + string(run.Output)
	}
	for _, k := range known {
		if at := k.says.FindStringSubmatchIndex(said); at != nil {
			return &explainedError{string(k.says.ExpandString(nil, k.means, said, at)), err}
		}
	}
	if run == nil {
		return err
	}
	return &explainedError{fmt.Sprintf("%s: %s", beforeCommand(err), meaningful(run)), err}
}

// beforeCommand is what kind was doing.
func beforeCommand(err error) string {
	doing, _, _ := strings.Cut(err.Error(), ": command ")
	return doing
}

// meaningful is the line of a failed command's output that says why: the last one that speaks of an error, else the last one.
func meaningful(run *exec.RunError) string {
	lines := strings.Split(strings.TrimSpace(string(run.Output)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(strings.ToLower(lines[i]), "error") {
			return strings.TrimSpace(lines[i])
		}
	}
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return run.Error()
}
