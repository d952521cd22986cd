// Package cluster makes clusters with kind and removes them again, without touching anybody's kubeconfig. A cluster can be kept for several runs: then it says itself when
// it was last used, so that those that nobody uses any more can be found.
//
// kind has no cancellation: when a run is interrupted while kind works, the nodes are taken away from it, its end is waited for, and what it left is removed.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
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
	Nodes      int           // one control plane and workers; 0: what the file says, else one
	Wait       time.Duration // for all nodes to be ready, once they are made; 0: 3 minutes
	Log        *slog.Logger  // nil: none
	Progress   func(string)  // told each step of kind's; nil: nobody
}

const (
	defaultWait = 3 * time.Minute
	undoing     = 2 * time.Minute // for removing what could not be finished
)

// Cluster is a kind cluster of this machine.
type Cluster struct {
	name     string
	provider *cluster.Provider
}

// valid names are those that kind takes, short enough for the host names of nodes.
var valid = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?$`)

// Find returns the cluster of that name, or ErrNotFound.
func Find(ctx context.Context, name string) (*Cluster, error) {
	p, err := provider(ctx, logger{})
	if err != nil {
		return nil, err
	}
	all, err := list(p)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(all, name) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return &Cluster{name: name, provider: p}, nil
}

// List names the kind clusters of this machine.
func List(ctx context.Context) ([]string, error) {
	p, err := provider(ctx, logger{})
	if err != nil {
		return nil, err
	}
	return list(p)
}

func list(p *cluster.Provider) ([]string, error) {
	all, err := p.List()
	if err != nil {
		return nil, fmt.Errorf("listing kind clusters: %w", explain(err))
	}
	return all, nil
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
	if !valid.MatchString(o.Name) {
		return nil, errors.New("a name has at most 42 lower case letters, digits, dashes and dots")
	}
	config, err := configuration(o)
	if err != nil {
		return nil, err
	}
	p, err := provider(ctx, logger{o.Log, o.Progress})
	if err != nil {
		return nil, err
	}
	release, err := claim(o.Name) // two that make the same one would remove each other's nodes
	if err != nil {
		return nil, err
	}
	defer release()
	there, err := list(p)
	if err != nil {
		return nil, err
	}
	if slices.Contains(there, o.Name) {
		return nil, errors.New("there is one of that name already: use it with --cluster " + o.Name + ", or delete it with `meshtest env down " + o.Name + "`")
	}
	c := &Cluster{name: o.Name, provider: p}
	if err = c.make(ctx, config, orElse(o.NodeImage, EnvImage)); err == nil {
		err = c.ready(ctx, o.Wait)
	}
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoing)
		defer cancel()
		return nil, errors.Join(err, c.Delete(undo))
	}
	return c, nil
}

// make has kind make the cluster, and returns when kind has ended. Once ctx ends kind finds its nodes gone.
func (c *Cluster) make(ctx context.Context, config []byte, image string) error {
	made := make(chan error, 1)
	go func() {
		made <- scratch(func(kubeconfig string) error {
			options := []cluster.CreateOption{
				cluster.CreateWithRawConfig(config), cluster.CreateWithKubeconfigPath(kubeconfig), cluster.CreateWithDisplayUsage(false), cluster.CreateWithDisplaySalutation(false),
			}
			if image != "" {
				options = append(options, cluster.CreateWithNodeImage(image))
			}
			return c.provider.Create(c.name, options...)
		})
	}()
	select {
	case err := <-made:
		return explain(err)
	case <-ctx.Done():
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoing)
	defer cancel()
	_ = c.Delete(undo) // it is done again when kind has ended
	<-made
	return context.Cause(ctx)
}

// scratch gives kind a kubeconfig to write, which it insists on, that is nobody's.
func scratch(use func(kubeconfig string) error) error {
	folder, err := os.MkdirTemp("", "meshtest-kind-*")
	if err != nil {
		return err
	}
	return errors.Join(use(filepath.Join(folder, "kubeconfig")), os.RemoveAll(folder))
}

func (c *Cluster) ready(ctx context.Context, wait time.Duration) error {
	if wait == 0 {
		wait = defaultWait
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	all, err := c.Nodes()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("it was not ready within %s", wait))
	defer cancel()
	return awaitReady(ctx, client, len(all))
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Nodes are the nodes that run pods and the control plane.
func (c *Cluster) Nodes() ([]nodes.Node, error) {
	all, err := c.provider.ListInternalNodes(c.name)
	if err != nil {
		return nil, fmt.Errorf("listing the nodes of the kind cluster %s: %w", c.name, explain(err))
	}
	return all, nil
}

// NodeNames are the names of the nodes, as Kubernetes and the container engine call them.
func (c *Cluster) NodeNames() ([]string, error) {
	all, err := c.Nodes()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range all {
		names = append(names, n.String())
	}
	slices.Sort(names)
	return names, nil
}

// RestConfig is how to reach its API server from this machine.
func (c *Cluster) RestConfig() (*rest.Config, error) {
	text, err := c.Kubeconfig()
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("reaching the kind cluster %s: %w", c.name, err)
	}
	return config, nil
}

func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := c.RestConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reaching the kind cluster %s: %w", c.name, err)
	}
	return client, nil
}

// Kubeconfig is the text of a kubeconfig for it.
func (c *Cluster) Kubeconfig() (string, error) {
	text, err := c.provider.KubeConfig(c.name, false)
	if err != nil {
		return "", fmt.Errorf("reaching the kind cluster %s: %w", c.name, explain(err))
	}
	return text, nil
}

// Delete deletes the cluster and everything in it. A cluster that is not there is deleted. When ctx ends first the engine may still be at it: it cannot be told to stop.
func (c *Cluster) Delete(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		done <- scratch(func(kubeconfig string) error { return c.provider.Delete(c.name, kubeconfig) })
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("deleting the kind cluster %s: %w", c.name, explain(err))
	}
	return nil
}
