package kube

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"meshtest.dev/meshtest/env/kube/cluster"
	"meshtest.dev/meshtest/env/kube/ledger"
)

// Rates of requests to the API server: a run is short, and waits for what it asks.
const (
	queriesPerSecond = 100
	burst            = 200
)

// existing is how to reach a cluster that is there, as kubectl would.
func existing(kubeconfig, contextName string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: contextName}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w (--kubeconfig and --context choose another one)", err)
	}
	return tuned(config), nil
}

// resolved names the cluster so that it is the same one when the user has gone elsewhere since: by its context and the file's whole path.
func resolved(kubeconfig, contextName string) ledger.Place {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	if contextName == "" {
		if raw, err := rules.Load(); err == nil {
			contextName = raw.CurrentContext
		}
	}
	if whole, err := filepath.Abs(kubeconfig); err == nil && kubeconfig != "" {
		kubeconfig = whole
	}
	return ledger.Place{Kubeconfig: kubeconfig, Context: contextName}
}

func tuned(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = queriesPerSecond, burst
	config.UserAgent = "meshtest"
	config.WarningHandler = rest.NoWarnings{}
	return config
}

// configOf is how to reach the cluster that a ledger speaks of.
func configOf(ctx context.Context, p ledger.Place) (*rest.Config, error) {
	if p.Cluster == "" {
		return existing(p.Kubeconfig, p.Context)
	}
	c, err := cluster.Find(ctx, p.Cluster)
	if err != nil {
		return nil, err
	}
	config, err := c.RestConfig()
	if err != nil {
		return nil, err
	}
	return tuned(config), nil
}

func newClient(config *rest.Config) (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	return client, nil
}

// permission is something that a run has to be allowed to do.
type permission struct {
	verb, group, resource string
	namespaced            bool // in the applications' namespace
}

func (p permission) String() string {
	name := p.resource
	if p.group != "" {
		name += "." + p.group
	}
	return p.verb + " " + name
}

// permissions are what standing a mesh up takes.
func permissions() []permission {
	all := []permission{
		{"create", "", "namespaces", false},
		{"create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", false},
		{"create", "rbac.authorization.k8s.io", "clusterroles", false},
		{"create", "rbac.authorization.k8s.io", "clusterrolebindings", false},
	}
	for _, resource := range []string{"services", "serviceaccounts", "configmaps", "secrets", "pods/portforward"} {
		all = append(all, permission{"create", "", resource, true})
	}
	for _, resource := range []string{"pods", "pods/log", "events"} {
		all = append(all, permission{"get", "", resource, true})
	}
	return append(all, permission{"create", "apps", "deployments", true}, permission{"create", "rbac.authorization.k8s.io", "roles", true})
}

// mayDo asks the API server about everything that the run is going to do, before it does any of it.
func (m *Mesh) mayDo(ctx context.Context) error {
	if _, err := m.client.Discovery().ServerVersion(); err != nil {
		return fmt.Errorf("the API server at %s does not answer: %w", m.config.Host, err)
	}
	if m.ownCluster {
		return nil
	}
	wanted := permissions()
	denied := make([]string, len(wanted))
	g, ctx := errgroup.WithContext(ctx)
	for i, p := range wanted {
		g.Go(func() error {
			allowed, err := m.allowed(ctx, p)
			if err == nil && !allowed {
				denied[i] = p.String()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("asking the API server what this user may do: %w", err)
	}
	denied = slices.DeleteFunc(denied, func(s string) bool { return s == "" })
	if len(denied) > 0 {
		return fmt.Errorf("this user of the cluster may not %s: a run needs that; ask for it, or use --env kind", strings.Join(denied, ", "))
	}
	return nil
}

func (m *Mesh) allowed(ctx context.Context, p permission) (bool, error) {
	resource, subresource, _ := strings.Cut(p.resource, "/")
	attributes := &authorizationv1.ResourceAttributes{Verb: p.verb, Group: p.group, Resource: resource, Subresource: subresource}
	if p.namespaced {
		attributes.Namespace = m.realNamespace()
	}
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes}}
	answer, err := m.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}

// Binaries are the programs that images are made of.
type Binaries struct {
	Sidecar string
	Control string
	Fixture string
	Load    string
}

// needed are the programs without which there is no mesh.
func (b Binaries) needed(outside bool) []string {
	paths := []string{b.Sidecar, b.Control, b.Fixture}
	if !outside {
		paths = append(paths, b.Load)
	}
	return paths
}

// findBinaries looks for the programs beside the running one.
func (e *Environment) findBinaries() error {
	if e.Binaries != (Binaries{}) {
		return nil
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the programs of the mesh: %w", err)
	}
	dir := filepath.Dir(executable)
	b := Binaries{
		Sidecar: filepath.Join(dir, "meshtest-sidecar"), Control: filepath.Join(dir, "meshtest-control"),
		Fixture: filepath.Join(dir, "meshtest-fixture"), Load: filepath.Join(dir, "meshtest-load"),
	}
	for _, path := range b.needed(e.Outside) {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%s is not in %s: `make build` and `go install ./cmd/...` put it beside meshtest", filepath.Base(path), dir)
		}
	}
	e.Binaries = b
	return nil
}
