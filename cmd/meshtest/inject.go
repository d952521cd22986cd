package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/internal/version"
)

type injectFlags struct {
	file   string
	output string
	config inject.Config
}

func injectCommand(s streams) *cobra.Command {
	var f injectFlags
	cmd := &cobra.Command{
		Use: "inject -f FILE|-", Short: "Add sidecars to the workloads of a file of Kubernetes objects",
		Long: `Add the mesh's containers to every workload of a file of Kubernetes objects, YAML or JSON: pods, Deployments, StatefulSets, DaemonSets,
ReplicaSets, ReplicationControllers, Jobs and CronJobs, in lists as well. Everything else in the file stays as it is written, comments too.
It is what the mesh's webhook does when pods are created in the namespace of a run.

  meshtest inject -f shop.yaml --run r-42 | kubectl apply -f -

A workload is left alone when its pods have the label meshtest.dev/inject: disabled (or sidecar.istio.io/inject: "false"), when it was
injected before, when it uses its node's network, and in namespaces of Kubernetes' own. Annotations of the pods keep traffic away from
the sidecar, as lists separated by commas: meshtest.dev/exclude-inbound-ports, exclude-outbound-ports, exclude-outbound-cidrs and
exclude-uids; Istio's of the same meaning are honoured too.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return f.inject(s) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "`file` with Kubernetes objects; - for standard input")
	flags.StringVarP(&f.output, "output", "o", "", "`file` to write (default: standard output); it may be the same file")
	flags.StringVar(&f.config.RunID, "run", "", "`id` of the run whose mesh the workloads join")
	flags.StringVar(&f.config.ControlAddress, "control", "", "`HOST:PORT` of the control plane (default: that of --run)")
	flags.StringVar(&f.config.Image, "image", defaultSidecarImage(version.String()), "`reference` of the sidecar's image")
	flags.StringArrayVar(&f.config.Namespaces, "opt-in", nil, "inject only workloads of this `namespace`; may be repeated (default: of all)")
	flags.BoolVar(&f.config.NativeSidecars, "native-sidecars", true, "the cluster restarts init containers, as Kubernetes does since 1.29")
	flags.StringVar(&f.config.LogLevel, "sidecar-log-level", "", "DEBUG, INFO, WARN or ERROR (default INFO)")
	return cmd
}

// defaultSidecarImage is the image of a version of ours. Its tag has the characters that tags may have.
func defaultSidecarImage(version string) string {
	return "meshtest-sidecar:" + regexp.MustCompile(`[^\w.-]`).ReplaceAllString(version, "-")
}

func (f *injectFlags) inject(s streams) error {
	const usage = "meshtest inject -f FILE --run ID"
	c := f.config
	switch {
	case f.file == "":
		return usageError(usage, "there is nothing to inject: -f is missing")
	case c.ControlAddress == "" && c.RunID == "":
		return usageError(usage, "a sidecar needs a control plane: --run or --control is missing")
	case c.ControlAddress == "":
		c.ControlAddress = net.JoinHostPort(names.Control+"."+names.SystemNamespace(c.RunID)+".svc", strconv.Itoa(names.PortControl))
	}
	if err := c.Validate(); err != nil {
		return usageError(usage, "%v", err)
	}
	name, text, err := f.read(s)
	if err != nil {
		return usageError("", "%v", err)
	}
	out, notes, err := inject.Manifest(name, text, c)
	if problems := (inject.Problems)(nil); errors.As(err, &problems) {
		fmt.Fprintln(s.err, err)
		return usageError("", "%s: %s; nothing was written", name, map[bool]string{true: "1 problem", false: fmt.Sprint(len(problems), " problems")}[len(problems) == 1])
	}
	if err != nil {
		return usageError("", "%v", err)
	}
	narrate(s.err, name, notes)
	return f.write(s, out)
}

func (f *injectFlags) read(s streams) (name string, text []byte, err error) {
	if f.file == "-" {
		text, err = io.ReadAll(s.in)
		return "stdin", text, err
	}
	text, err = os.ReadFile(f.file)
	return f.file, text, err
}

func (f *injectFlags) write(s streams, text []byte) error {
	var err error
	if f.output == "" {
		_, err = s.out.Write(text)
	} else {
		err = os.WriteFile(f.output, text, 0o644)
	}
	if err != nil {
		return exitError{code: exitEnvironment, text: err.Error()}
	}
	return nil
}

func narrate(w io.Writer, name string, notes []inject.Note) {
	for _, n := range notes {
		place := name
		if n.Line > 0 {
			place += ":" + strconv.Itoa(n.Line)
		}
		if n.Skipped != "" {
			fmt.Fprintf(w, "%s: %s: left alone: %s\n", place, n.Object, n.Skipped)
			continue
		}
		fmt.Fprintf(w, "%s: %s: injected\n", place, n.Object)
		for _, warning := range n.Warnings {
			fmt.Fprintf(w, "%s: %s: warning: %s\n", place, n.Object, warning)
		}
	}
	if len(notes) == 0 {
		fmt.Fprintf(w, "%s: nothing there makes pods\n", name)
	}
}
