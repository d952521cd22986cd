// Command cni is the pod network of an offline cluster, one instance on each node: it gives the node's container runtime the node's own range
// of pod addresses, routes to the other nodes' ranges, and hides pods behind the node's address only towards the outside, so that pods see each
// other's addresses. It stands where kind's own network daemon does, and reads what kind tells that one by environment variables.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	// resync sets everything again, whether or not a node changed: somebody may have flushed a table.
	resync = 30 * time.Second
	// retry follows a reconciliation that failed.
	retry = time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("cannot provide the pod network", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	pods, err := prefixes(strings.Split(os.Getenv("POD_SUBNET"), ","))
	if err != nil {
		return fmt.Errorf("reading POD_SUBNET: %w", err)
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	if direct := os.Getenv("CONTROL_PLANE_ENDPOINT"); direct != "" {
		config.Host = "https://" + direct // the Service of the API server works only after kube-proxy does
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client of the API server: %w", err)
	}
	return follow(ctx, client, func(nodes []*corev1.Node) error {
		return reconcile(os.Getenv("NODE_NAME"), pods, nodes)
	})
}

// follow calls reconcile with all nodes, first and after every change, until ctx is done.
func follow(ctx context.Context, client kubernetes.Interface, reconcile func([]*corev1.Node) error) error {
	factory := informers.NewSharedInformerFactory(client, resync)
	nodes := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default: // what is waiting covers this change too
		}
	}
	if _, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { poke() },
		UpdateFunc: func(any, any) { poke() },
		DeleteFunc: func(any) { poke() },
	}); err != nil {
		return fmt.Errorf("following the nodes: %w", err)
	}
	defer factory.Shutdown()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), nodes.Informer().HasSynced) {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		all, err := nodes.Lister().List(labels.Everything())
		if err == nil {
			err = reconcile(all)
		}
		if err != nil {
			slog.Warn("the pod network is not as it should be yet", "error", err)
			again := time.AfterFunc(retry, poke)
			defer again.Stop()
		}
	}
}

// reconcile makes this node's pod network what the list of nodes asks for.
func reconcile(self string, pods []netip.Prefix, nodes []*corev1.Node) error {
	own, routes, err := layout(self, nodes)
	if err != nil {
		return err
	}
	if err := setRoutes(routes); err != nil {
		return err
	}
	if err := setMasquerade(pods); err != nil {
		return err
	}
	mtu, err := uplinkMTU()
	if err != nil {
		return err
	}
	return writeConfig(own, mtu) // last, because the runtime takes the node for ready when the file is there
}
