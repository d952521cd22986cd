package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// awaitReady waits until there are that many nodes and all are ready, and until pods can be made: they need the account of those that name none.
func awaitReady(ctx context.Context, client kubernetes.Interface, want int) error {
	state := map[string]string{} // of each node, what it lacks
	in := client.CoreV1().Nodes()
	err := until(ctx, client, &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return in.List(ctx, o) },
		WatchFuncWithContext: in.Watch,
	}, &corev1.Node{}, func(o runtime.Object) bool {
		node := o.(*corev1.Node)
		state[node.Name] = lacks(node)
		return len(state) == want && !slices.ContainsFunc(slices.Collect(maps.Values(state)), func(lacking string) bool { return lacking != "" })
	})
	if err != nil {
		return fmt.Errorf("%w: %s", err, describe(state, want))
	}
	accounts := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault)
	err = until(ctx, client, &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return accounts.List(ctx, o) },
		WatchFuncWithContext: accounts.Watch,
	}, &corev1.ServiceAccount{}, func(o runtime.Object) bool { return o.(*corev1.ServiceAccount).Name == "default" })
	if err != nil {
		return fmt.Errorf("%w: namespace default has no account for pods", err)
	}
	return nil
}

// until watches objects until so is true of one.
func until(ctx context.Context, client kubernetes.Interface, all *cache.ListWatch, kind runtime.Object, so func(runtime.Object) bool) error {
	_, err := watchtools.UntilWithSync(ctx, cache.ToListWatcherWithWatchListSemantics(all, client), kind, nil, func(e watch.Event) (bool, error) {
		return e.Type != watch.Deleted && so(e.Object), nil
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// lacks is why a node is not ready; empty when it is.
func lacks(node *corev1.Node) string {
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return ""
		}
		return c.Message
	}
	return "it has not said anything yet"
}

func describe(state map[string]string, want int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(state)) {
		if state[name] != "" {
			parts = append(parts, name+": "+state[name])
		}
	}
	if missing := want - len(state); missing > 0 {
		parts = append(parts, fmt.Sprintf("%d nodes have not joined", missing))
	}
	return strings.Join(parts, "; ")
}
