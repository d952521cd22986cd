package main

import (
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/kube"
	"meshtest.dev/meshtest/env/kube/cluster"
)

// clusterFlags say which cluster a run uses, and how.
type clusterFlags struct {
	cluster    string
	nodes      int
	nodeImage  string
	kindConfig string
	kubeconfig string
	context    string
	namespace  string
	registry   string
	install    bool
	load       string
	prometheus string
}

// Where load comes from in a cluster.
const (
	loadInside  = "inside"
	loadOutside = "outside"
)

func (f *clusterFlags) addCluster(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.addKind(cmd)
	flags.StringVar(&f.cluster, "cluster", "", "kind: `name` of a cluster to use, and to make and keep when it is not there (default: one for the run, removed after it)")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubernetes: `file` (default: as kubectl finds it)")
	flags.StringVar(&f.context, "context", "", "kubernetes: `context` of the kubeconfig (default: its current one)")
	flags.StringVar(&f.namespace, "namespace", "", "`namespace` for the applications (default: the scenario's in a cluster made for the run, else one named after the run)")
	flags.StringVar(&f.registry, "registry", "", "kubernetes: `prefix` to push the mesh's images to, such as registry.example.com/meshtest")
	flags.BoolVar(&f.install, "install", false, "kubernetes: install the definitions of Istio's objects; they stay")
	flags.StringVar(&f.load, "load", loadInside, "kind, kubernetes: where load comes from: `inside` the cluster, or outside through a port of a node")
	flags.StringVar(&f.prometheus, "prometheus", "", "`URL` of a Prometheus that scrapes the mesh, to ask instead of scraping ourselves")
}

// addKind adds what a kind cluster is made of.
func (f *clusterFlags) addKind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.nodes, "nodes", 0, "kind: `number` of nodes of a cluster that is made (default 1, or what the configuration says)")
	flags.StringVar(&f.nodeImage, "node-image", "", "kind: node `image` (default $MESHTEST_KIND_IMAGE, else kind's own)")
	flags.StringVar(&f.kindConfig, "kind-config", "", "kind: configuration `file` (default $MESHTEST_KIND_CONFIG)")
}

// clusterReady is how long the nodes of a new cluster may take.
const clusterReady = 3 * time.Minute

func (f *clusterFlags) clusterOptions() cluster.Options {
	return cluster.Options{Name: f.cluster, Nodes: f.nodes, NodeImage: f.nodeImage, ConfigFile: f.kindConfig, Wait: clusterReady}
}

// inCluster is the environment of a cluster that kind makes, or of one that is there.
func (f *clusterFlags) inCluster(kind bool, level slog.Level) (env.Environment, error) {
	if f.load != "" && f.load != loadInside && f.load != loadOutside {
		return nil, usageError("inside or outside", "--load %q is neither", f.load)
	}
	return &kube.Environment{Options: kube.Options{
		Kind: kind, Reuse: f.cluster != "", Cluster: f.clusterOptions(),
		Kubeconfig: f.kubeconfig, Context: f.context, Namespace: f.namespace, Registry: f.registry, Install: f.install,
		Outside: f.load == loadOutside, Log: level,
	}}, nil
}
