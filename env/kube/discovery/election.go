package discovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/env/kube/names"
)

// How the lead passes on. A control plane that is asked to stop gives the lead up at once; these bound how long nobody leads after one that was killed: its successor has to watch the Lease for as
// long as it lasts. Sidecars carry on meanwhile, but no step of a roll-out arrives, so it is a third of Kubernetes' own choice. Losing the lead because the API server is slow for seconds costs a
// reconnect of every sidecar and nothing else, since the rules are guarded by the Secret's version.
const (
	leaseDuration = 5 * time.Second
	renewDeadline = 4 * time.Second
	retryPeriod   = time.Second
)

// Election sees to it that one control plane of a namespace leads at a time, by a Lease.
type Election struct {
	Client    kubernetes.Interface
	Namespace string
	Identity  string // the pod's name: a container that begins anew in the same pod has the lead still
}

// Run calls lead whenever this control plane has the lead, until ctx ends; lead has to return soon after its context ended. It returns when the lead has been given up, with what lead returns, unless
// that is only that somebody else leads.
func (e Election) Run(ctx context.Context, lead func(context.Context) error) error {
	for ctx.Err() == nil {
		if err := e.once(ctx, lead); err != nil && !errors.Is(err, control.ErrReplaced) {
			return err
		}
	}
	return nil
}

// once waits for the lead, and leads until ctx ends or the lead is lost.
func (e Election) once(ctx context.Context, lead func(context.Context) error) error {
	holding, giveUp := context.WithCancel(context.WithoutCancel(ctx)) // the lead is given up only when nobody acts on it any more
	defer giveUp()
	elected := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: e.Namespace, Name: names.Control}, Client: e.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: true, Name: names.Control,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(term context.Context) { elected <- term }, OnStoppedLeading: func() {}},
	})
	if err != nil {
		return fmt.Errorf("preparing the election: %w", err)
	}
	var electing sync.WaitGroup
	defer electing.Wait()
	defer giveUp()
	electing.Go(func() { elector.Run(holding) })
	select {
	case <-ctx.Done():
		return nil
	case term := <-elected:
		term, stop := context.WithCancel(term)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		return lead(term)
	}
}
