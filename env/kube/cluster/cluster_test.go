package cluster

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	kinderrors "sigs.k8s.io/kind/pkg/errors"
	"sigs.k8s.io/kind/pkg/exec"

	"meshtest.dev/meshtest/internal/testbubble"
)

func TestKindsErrorsSayWhatCanBeDone(t *testing.T) {
	t.Parallel()
	command := func(doing, output string) error {
		return kinderrors.Wrap(&exec.RunError{Command: []string{"docker", "run"}, Output: []byte(output), Inner: errors.New("exit status 125")}, doing)
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"image": {
			command(`failed to pull image "kindest/node:v1.34.0"`, "Error response from daemon: dial tcp: lookup registry: no such host\n"),
			"the node image kindest/node:v1.34.0 is not there and cannot be pulled: name one that is there with --node-image or $MESHTEST_KIND_IMAGE; hack/kind-offline/up makes one without a registry",
		},
		"docker's port": {
			command("", "docker: Error response from daemon: failed to set up container networking: Bind for 127.0.0.1:8080 failed: port is already allocated.\n\nRun 'docker run --help'"),
			"port 8080 of this machine, which the configuration asks for, is taken: change extraPortMappings or apiServerPort",
		},
		"somebody's port": {
			command("", "Error: failed to listen on TCP socket: listen tcp4 127.0.0.1:8080: bind: address already in use"),
			"port 8080 of this machine, which the configuration asks for, is taken: change extraPortMappings or apiServerPort",
		},
		"podman's port": {
			command("", "Error: rootlessport listen tcp 0.0.0.0:80: bind: address already in use"),
			"port 80 of this machine, which the configuration asks for, is taken: change extraPortMappings or apiServerPort",
		},
		"disk": {command("", "write /var/lib/docker/x: no space left on device"), "the disk is full: a cluster needs about 2 GB; `docker system prune` frees what engines keep"},
		"container": {
			command("", `docker: Error response from daemon: Conflict. The container name "/x-control-plane" is already in use by container "abc".`),
			"a container is called x-control-plane already, which a node has to be called",
		},
		"another": {
			command("failed to init node with kubeadm", "[init] Using Kubernetes version\nerror: timed out waiting for the condition\nSee the log\n"),
			"failed to init node with kubeadm: error: timed out waiting for the condition",
		},
		"no command": {errors.New("unknown key"), "unknown key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := explain(errors.Join(c.err, nil))
			require.EqualError(t, err, c.want)
			require.ErrorIs(t, err, c.err)
		})
	}
	require.NoError(t, explain(nil))
}

func TestConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kind.yaml")
	require.NoError(t, os.WriteFile(file, []byte("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: {ipFamily: ipv4}\nnodes: [{role: control-plane}, {role: worker}, {role: worker}]\n"), 0o600))
	bare := filepath.Join(t.TempDir(), "bare.yaml")
	require.NoError(t, os.WriteFile(bare, []byte("networking: {ipFamily: ipv6}\n"), 0o600))
	for name, c := range map[string]struct {
		options Options
		env     string
		nodes   int
		family  string
	}{
		"nothing":              {nodes: 0},
		"nodes":                {options: Options{Nodes: 2}, nodes: 2},
		"file":                 {options: Options{ConfigFile: file}, nodes: 3, family: "ipv4"},
		"file and nodes":       {options: Options{ConfigFile: file, Nodes: 1}, nodes: 1, family: "ipv4"},
		"variable":             {env: bare, nodes: 0, family: "ipv6"},
		"variable and nodes":   {env: bare, options: Options{Nodes: 4}, nodes: 4, family: "ipv6"},
		"file before variable": {env: bare, options: Options{ConfigFile: file}, nodes: 3, family: "ipv4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(EnvConfig, c.env)
			text, err := configuration(c.options)
			require.NoError(t, err)
			var got struct {
				Kind       string
				Nodes      []struct{ Role string }
				Networking struct {
					IPFamily string `yaml:"ipFamily"`
				}
			}
			require.NoError(t, yaml.Unmarshal(text, &got))
			require.Equal(t, "Cluster", got.Kind)
			require.Len(t, got.Nodes, c.nodes)
			require.Equal(t, c.family, got.Networking.IPFamily)
			for i, n := range got.Nodes {
				require.Equal(t, i == 0, n.Role == "control-plane")
			}
		})
	}
	t.Setenv(EnvConfig, "")
	_, err := configuration(Options{ConfigFile: "/nowhere"})
	require.ErrorContains(t, err, "reading kind's configuration: open /nowhere")
	_, err = configuration(Options{Nodes: -1})
	require.Error(t, err)
}

// TestEngines puts programs into the path that answer as engines do.
func TestEngines(t *testing.T) {
	for name, c := range map[string]struct {
		docker, podman, chosen string
		want                   string
	}{
		"docker":             {docker: "echo 27.0"},
		"podman":             {docker: "echo 'Cannot connect to the Docker daemon' >&2; exit 1", podman: "echo 5.0"},
		"none":               {want: "a kind cluster needs a container engine, and none answers: docker is not installed, podman is not installed; start one, such as with `systemctl start docker`, or where no image can be pulled with hack/kind-offline/up"},
		"one that is down":   {docker: "echo 'Cannot connect to the Docker daemon' >&2; exit 1", want: "docker does not answer (Cannot connect to the Docker daemon), podman is not installed"},
		"not for this user":  {docker: "echo 'permission denied while trying to connect' >&2; exit 1", want: "docker may not be used by this user (permission denied while trying to connect)"},
		"chosen":             {docker: "echo 27.0", podman: "exit 3", chosen: "podman", want: "podman does not answer (exit status 3)"},
		"chosen, but absent": {docker: "echo 27.0", chosen: "nerdctl", want: `$KIND_EXPERIMENTAL_PROVIDER is "nerdctl", which is neither docker nor podman`},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			for engine, script := range map[string]string{"docker": c.docker, "podman": c.podman} {
				if script != "" {
					require.NoError(t, os.WriteFile(filepath.Join(path, engine), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
				}
			}
			t.Setenv("PATH", path)
			t.Setenv(envProvider, c.chosen)
			err := Preflight(t.Context())
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, is := range map[string]bool{"meshtest-r-1": true, "a": true, "a.b": true, "": false, "Up": false, "a_b": false, "-a": false, strings.Repeat("a", 43): false} {
		if is {
			require.True(t, valid.MatchString(name), name)
			continue
		}
		_, err := Create(t.Context(), Options{Name: name})
		require.ErrorContains(t, err, "a name has at most 42 lower case letters")
	}
}

func TestANameIsClaimedOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	release, err := claim("x")
	require.NoError(t, err)
	_, err = claim("x")
	require.EqualError(t, err, "somebody is making it right now")
	other, err := claim("y")
	require.NoError(t, err)
	other()
	release()
	release, err = claim("x")
	require.NoError(t, err)
	release()
}

func node(name string, ready corev1.ConditionStatus, message string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
		{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: ready, Message: message},
	}}}
}

func TestReady(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(node("x-control-plane", corev1.ConditionTrue, ""))
	watched := make(chan string, 10) // resources, as watches begin: what this client is told between a list and the watch after it is lost
	client.PrependWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
		w, err := client.Tracker().Watch(action.GetResource(), action.GetNamespace())
		watched <- action.GetResource().Resource
		return true, w, err
	})
	done := make(chan error, 1)
	go func() { done <- awaitReady(t.Context(), client, 2) }()
	require.Equal(t, "nodes", <-watched)
	nodes := client.CoreV1().Nodes()
	_, err := nodes.Create(t.Context(), node("x-worker", corev1.ConditionFalse, "no network"), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = nodes.Update(t.Context(), node("x-worker", corev1.ConditionTrue, ""), metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Equal(t, "serviceaccounts", <-watched)
	require.Empty(t, done)
	_, err = client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, <-done)
}

func TestNeverReady(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		nodes []*corev1.Node
		want  string
	}{
		"a node":     {[]*corev1.Node{node("a", corev1.ConditionTrue, ""), node("b", corev1.ConditionFalse, "no network")}, "too long: b: no network"},
		"one fewer":  {[]*corev1.Node{node("a", corev1.ConditionTrue, "")}, "too long: 1 nodes have not joined"},
		"no account": {[]*corev1.Node{node("a", corev1.ConditionTrue, ""), node("b", corev1.ConditionTrue, "")}, "too long: namespace default has no account for pods"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				client := fake.NewClientset()
				for _, n := range c.nodes {
					require.NoError(t, client.Tracker().Add(n))
				}
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("too long"))
				defer cancel()
				require.EqualError(t, awaitReady(ctx, client, 2), c.want)
			})
		})
	}
}

func TestTheMarkOfAKeptCluster(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	_, marked, err := used(t.Context(), client)
	require.NoError(t, err)
	require.False(t, marked)
	for _, at := range []time.Time{time.Unix(1_000_000, 0), time.Unix(2_000_000, 0)} {
		require.NoError(t, touch(t.Context(), client, at))
		got, marked, err := used(t.Context(), client)
		require.NoError(t, err)
		require.True(t, marked)
		require.True(t, got.Equal(at))
	}
}

func TestWhatKindSays(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	var steps []string
	l := logger{slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})), func(s string) { steps = append(steps, s) }}
	l.V(0).Infof(" • %s  ...\n", "Preparing nodes 📦 📦 ")
	l.V(0).Infof(" ✓ %s\n", "Preparing nodes 📦 📦 ")
	l.V(0).Info("")
	l.V(3).Info("[init] a thousand lines of kubeadm")
	l.Warn("cgroup v1 is deprecated")
	require.Equal(t, []string{"Preparing nodes"}, steps)
	require.Contains(t, text.String(), "level=WARN msg=\"cgroup v1 is deprecated\"")
	require.NotContains(t, text.String(), "kubeadm")
	silent := logger{}
	silent.V(0).Info("x")
	silent.Error("x")
	require.False(t, silent.V(0).Enabled())
}
