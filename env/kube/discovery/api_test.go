package discovery

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"

	"meshtest.dev/meshtest/env/kube/discovery/apitest"
)

var silent = slog.New(slog.DiscardHandler)

func newAPI(objects ...runtime.Object) *apitest.API { return apitest.New(system, objects...) }

// inform starts informers, and returns when they know everything and hear everything.
func inform(t *testing.T, a *apitest.API) *Informers {
	t.Helper()
	i, err := NewInformers(Source{
		Client: a, Dynamic: a.Dynamic, Istio: apitest.Istio, Namespaces: map[string]string{real: logical, other: other}, System: system, Key: keyed, Log: silent,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); i.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-i.Synced()
	for range 2*(3+len(apitest.Istio)) + 1 { // kinds in both namespaces, and gateways
		<-a.Watched
	}
	return i
}
