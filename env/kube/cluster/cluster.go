// Package cluster makes clusters with kind and removes them again, without touching anybody's kubeconfig.
//
// kind has no cancellation: when a run is interrupted while kind works, the work is waited for and then undone, so that nothing is left.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/log"
)

// Environment variables that say what clusters are made of, where no option does.
const (
	EnvImage  = "MESHTEST_KIND_IMAGE"
	EnvConfig = "MESHTEST_KIND_CONFIG"
)

// ErrNotFound says that there is no cluster of that name.
var ErrNotFound = errors.New("there is no such kind cluster")

// Options say how to make a cluster.
type Options struct {
	Name       string
	NodeImage  string        // empty: $MESHTEST_KIND_IMAGE, else kind's own for its release
	ConfigFile string        // of kind; empty: $MESHTEST_KIND_CONFIG, else none
	Nodes      int           // 0: one, or what the file says
	Wait       time.Duration // for all nodes to be ready
	Log        *slog.Logger  // nil: none
}

// Cluster is a kind cluster of this machine.
type Cluster struct {
	name     string
	provider *cluster.Provider
}

// Preflight is nil when a container engine answers.
func Preflight(ctx context.Context) error {
	_, err := engine(ctx)
	return err
}

// engine is how kind reaches the container engine that answers.
func engine(ctx context.Context) (cluster.ProviderOption, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var tried []string
	for _, e := range []struct {
		name   string
		option cluster.ProviderOption
	}{{"docker", cluster.ProviderWithDocker()}, {"podman", cluster.ProviderWithPodman()}} {
		if chosen := os.Getenv("KIND_EXPERIMENTAL_PROVIDER"); chosen != "" && chosen != e.name {
			continue
		}
		if _, err := exec.LookPath(e.name); err != nil {
			tried = append(tried, e.name+" is not installed")
			continue
		}
		if out, err := exec.CommandContext(ctx, e.name, "info", "--format", "{{.ID}}").CombinedOutput(); err != nil {
			tried = append(tried, fmt.Sprintf("%s does not answer (%s)", e.name, lastLine(out, err)))
			continue
		}
		return e.option, nil
	}
	return nil, fmt.Errorf("a kind cluster needs a container engine: %s; start one, such as with `systemctl start docker`, or where no image can be pulled with hack/kind-offline/up", strings.Join(tried, ", "))
}

func lastLine(out []byte, err error) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return err.Error()
}

func provider(ctx context.Context, l *slog.Logger) (*cluster.Provider, error) {
	option, err := engine(ctx)
	if err != nil {
		return nil, err
	}
	return cluster.NewProvider(option, cluster.ProviderWithLogger(logger{l})), nil
}

// Find returns the cluster of that name, or ErrNotFound.
func Find(ctx context.Context, name string) (*Cluster, error) {
	p, err := provider(ctx, nil)
	if err != nil {
		return nil, err
	}
	names, err := p.List()
	if err != nil {
		return nil, fmt.Errorf("listing kind clusters: %w", err)
	}
	if !slices.Contains(names, name) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return &Cluster{name: name, provider: p}, nil
}

// List names the kind clusters of this machine.
func List(ctx context.Context) ([]string, error) {
	p, err := provider(ctx, nil)
	if err != nil {
		return nil, err
	}
	names, err := p.List()
	if err != nil {
		return nil, fmt.Errorf("listing kind clusters: %w", err)
	}
	return names, nil
}

// Create makes a cluster and returns when its nodes are ready. When it fails or ctx ends nothing is left of it.
func Create(ctx context.Context, o Options) (*Cluster, error) {
	c, err := create(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("making the kind cluster %s: %w", o.Name, err)
	}
	return c, nil
}

func create(ctx context.Context, o Options) (*Cluster, error) {
	config, err := configuration(o)
	if err != nil {
		return nil, err
	}
	p, err := provider(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	names, err := p.List()
	if err != nil {
		return nil, err
	}
	if slices.Contains(names, o.Name) {
		return nil, errors.New("there is one of that name already: --cluster uses it")
	}
	c := &Cluster{name: o.Name, provider: p}
	made := make(chan error, 1)
	go func() { made <- c.make(config, orElse(o.NodeImage, EnvImage)) }()
	select {
	case err = <-made:
	case <-ctx.Done():
		<-made // kind cannot be told to stop
		err = context.Cause(ctx)
	}
	if err == nil {
		err = c.awaitNodes(ctx, o.Wait)
	}
	if err != nil {
		return nil, errors.Join(explain(err), c.Delete(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// make has kind make the cluster. The kubeconfig that kind insists on writing goes to a file of its own.
func (c *Cluster) make(config []byte, image string) error {
	scratch, err := os.MkdirTemp("", "meshtest-kind-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	options := []cluster.CreateOption{
		cluster.CreateWithRawConfig(config), cluster.CreateWithKubeconfigPath(scratch + "/kubeconfig"),
		cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false),
	}
	if image != "" {
		options = append(options, cluster.CreateWithNodeImage(image))
	}
	return c.provider.Create(c.name, options...)
}

func orElse(value, variable string) string {
	if value != "" {
		return value
	}
	return os.Getenv(variable)
}

// configuration is kind's, of the file and the number of nodes.
func configuration(o Options) ([]byte, error) {
	config := map[string]any{"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}
	if path := orElse(o.ConfigFile, EnvConfig); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading kind's configuration: %w", err)
		}
		if err := yaml.Unmarshal(text, &config); err != nil {
			return nil, fmt.Errorf("reading kind's configuration: %s: %w", path, err)
		}
	}
	if o.Nodes > 0 {
		list := []any{map[string]any{"role": "control-plane"}}
		for range o.Nodes - 1 {
			list = append(list, map[string]any{"role": "worker"})
		}
		config["nodes"] = list
	}
	return yaml.Marshal(config)
}

// explain adds to what kind says what can be done about it.
func explain(err error) error {
	text := err.Error()
	for _, known := range []struct{ says, means string }{
		{"pull image", "the node image cannot be pulled: name one that is there with --node-image or $" + EnvImage + "; hack/kind-offline/up makes one without a registry"},
		{"port is already allocated", "a port that the configuration asks for is taken: change extraPortMappings"},
		{"address already in use", "a port that the configuration asks for is taken: change extraPortMappings"},
		{"no space left on device", "the disk is full"},
	} {
		if strings.Contains(text, known.says) {
			return fmt.Errorf("%s: %w", known.means, err)
		}
	}
	return err
}

// awaitNodes waits until every node is ready, and the account of pods without one is there.
func (c *Cluster) awaitNodes(ctx context.Context, wait time.Duration) error {
	config, err := c.RestConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	want, err := c.Nodes()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("its nodes were not ready within %s", wait))
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ready(ctx, client) == len(want) {
			if _, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err == nil {
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func ready(ctx context.Context, client kubernetes.Interface) int {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0 // it is asked again
	}
	n := 0
	for _, node := range list.Items {
		if slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}) {
			n++
		}
	}
	return n
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Nodes are the nodes that run pods and the control plane.
func (c *Cluster) Nodes() ([]nodes.Node, error) {
	list, err := c.provider.ListInternalNodes(c.name)
	if err != nil {
		return nil, fmt.Errorf("listing the nodes of the kind cluster %s: %w", c.name, err)
	}
	return list, nil
}

// RestConfig is how to reach its API server from this machine.
func (c *Cluster) RestConfig() (*rest.Config, error) {
	text, err := c.provider.KubeConfig(c.name, false)
	if err == nil {
		var config *rest.Config
		if config, err = clientcmd.RESTConfigFromKubeConfig([]byte(text)); err == nil {
			return config, nil
		}
	}
	return nil, fmt.Errorf("reaching the kind cluster %s: %w", c.name, err)
}

// Kubeconfig is the text of a kubeconfig for it.
func (c *Cluster) Kubeconfig() (string, error) { return c.provider.KubeConfig(c.name, false) }

// Delete deletes the cluster and everything in it.
func (c *Cluster) Delete(ctx context.Context) error {
	scratch, err := os.MkdirTemp("", "meshtest-kind-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	done := make(chan error, 1)
	go func() { done <- c.provider.Delete(c.name, scratch+"/kubeconfig") }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return fmt.Errorf("deleting the kind cluster %s: %w", c.name, context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("deleting the kind cluster %s: %w", c.name, err)
	}
	return nil
}

// logger hands what kind says to ours.
type logger struct{ *slog.Logger }

var _ log.Logger = logger{}

func (l logger) say(level slog.Level, text string) {
	if l.Logger != nil && strings.TrimSpace(text) != "" {
		l.Logger.Log(context.Background(), level, strings.TrimSpace(text))
	}
}

func (l logger) Warn(message string) { l.say(slog.LevelWarn, message) }
func (l logger) Warnf(format string, args ...any) {
	l.say(slog.LevelWarn, fmt.Sprintf(format, args...))
}
func (l logger) Error(message string) { l.say(slog.LevelError, message) }
func (l logger) Errorf(format string, args ...any) {
	l.say(slog.LevelError, fmt.Sprintf(format, args...))
}
func (l logger) V(level log.Level) log.InfoLogger { return info{l, level} }

type info struct {
	logger
	level log.Level
}

func (i info) Info(message string)              { i.say(slog.LevelDebug, message) }
func (i info) Infof(format string, args ...any) { i.say(slog.LevelDebug, fmt.Sprintf(format, args...)) }
func (i info) Enabled() bool                    { return i.Logger != nil }
