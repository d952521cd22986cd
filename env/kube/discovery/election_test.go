package discovery

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/env/kube/discovery/apitest"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/internal/testbubble"
)

// candidate is one control plane in an election, on a connection of its own to the API server.
type candidate struct {
	api     *apitest.API
	leading chan struct{} // holds a token when it has begun to lead
	stop    context.CancelFunc
	done    chan error
}

// stood is how many lead; more than one is an error.
type stood struct {
	t   *testing.T
	mu  sync.Mutex
	now int
}

func (s *stood) change(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now += by
	require.LessOrEqual(s.t, s.now, 1, "two lead at once")
}

func newLease() *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: names.Control}} // as it is made with the run: empty
}

func (s *stood) candidate(a *apitest.API, identity string, lead func(context.Context) error) *candidate {
	c := &candidate{api: a.Share(), leading: make(chan struct{}, 10), done: make(chan error, 1)}
	var ctx context.Context
	ctx, c.stop = context.WithCancel(s.t.Context())
	e := Election{Client: c.api, Namespace: system, Identity: identity}
	go func() {
		c.done <- e.Run(ctx, func(term context.Context) error {
			s.change(1)
			defer s.change(-1)
			c.leading <- struct{}{}
			return lead(term)
		})
	}()
	return c
}

func stay(term context.Context) error { <-term.Done(); return nil }

func TestTheLeadPassesOn(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a, s := newAPI(newLease()), &stood{t: t}
		first := s.candidate(a, "first", stay)
		<-first.leading
		second := s.candidate(a, "second", stay)
		time.Sleep(10 * leaseDuration) // of the bubble's clock
		require.Empty(t, second.leading)

		asked := time.Now()
		first.stop()
		require.NoError(t, <-first.done)
		<-second.leading
		require.LessOrEqual(t, time.Since(asked), 2*retryPeriod+retryPeriod/2, "who stops gives it up at once")

		third := s.candidate(a, "third", stay)
		killed := time.Now()
		second.api.Fall() // it hears nothing any more, as if its node were gone
		<-third.leading
		require.LessOrEqual(t, time.Since(killed), leaseDuration+2*retryPeriod+retryPeriod/2)
		second.stop()
		require.NoError(t, <-second.done)
		third.stop()
		require.NoError(t, <-third.done)
		lease, err := a.CoordinationV1().Leases(system).Get(t.Context(), names.Control, metav1.GetOptions{})
		require.NoError(t, err)
		require.Empty(t, *lease.Spec.HolderIdentity, "nobody leads")
	})
}

func TestWhoLeadsMayFailOrBeReplaced(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a, s := newAPI(newLease()), &stood{t: t}
		terms := 0
		c := s.candidate(a, "first", func(term context.Context) error {
			if terms++; terms == 1 {
				return errors.Join(errors.New("saving"), control.ErrReplaced)
			}
			return errors.New("no disk")
		})
		require.EqualError(t, <-c.done, "no disk")
		require.Equal(t, 2, terms, "who was replaced stands again")
		c.stop()
	})
}
