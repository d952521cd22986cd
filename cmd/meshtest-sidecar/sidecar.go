package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/injector/filter"
	"meshtest.dev/meshtest/proxy"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// heartbeat is how long a sidecar with nothing to tell stays silent. The end of a run waits for it.
const heartbeat = 250 * time.Millisecond

// sidecar is everything that runs in the process.
type sidecar struct {
	bootstrap bootstrap
	log       *slog.Logger
	server    *proxy.Server
	faults    *filter.Filter
	evidence  *telemetry.Evidence
	direct    net.Listener
	admin     net.Listener // nil: nobody asks
	level     *slog.LevelVar
}

// newSidecar makes the parts and opens the sockets, so that whoever started the process finds them; it starts nothing.
func newSidecar(b bootstrap, log *slog.Logger, level *slog.LevelVar) (*sidecar, error) {
	s := &sidecar{bootstrap: b, log: log, level: level}
	s.faults = filter.New(b.Workload.Instance, filter.BootClock)
	s.evidence = telemetry.NewEvidence(telemetry.EvidenceOptions{Instance: b.Workload.Instance, Heartbeat: heartbeat})
	s.server = proxy.New(proxy.Options{
		Workload: b.Workload, EdgeToken: b.EdgeToken, Filters: []proxy.Filter{acted(s.faults)}, Evidence: s.evidence, Log: log,
		Timeouts: proxy.Timeouts{Drain: b.Drain},
	})
	var err error
	if s.direct, err = wire.Listen(b.Direct); err != nil {
		return nil, err
	}
	if b.Admin != "" {
		if s.admin, err = wire.Listen(b.Admin); err != nil {
			return nil, errors.Join(err, s.direct.Close())
		}
	}
	return s, nil
}

// run serves until ctx ends, and returns when nothing is left. It ends in stages: first no configuration and no connections are taken any more, then the last evidence is told, and only then
// do those go who ask for it.
func (s *sidecar) run(ctx context.Context) error {
	carrying, stopCarrying := context.WithCancelCause(ctx)
	telling, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	answering, stopAnswering := context.WithCancelCause(context.WithoutCancel(ctx))
	var carry, tell, answer sync.WaitGroup
	failed := func(err error) {
		if err != nil {
			stopCarrying(err)
		}
	}
	answer.Go(func() {
		failed(wire.ServeDirect(answering, s.direct, wire.Verify(s.bootstrap.DirectToken), s.faults, told(s.evidence)))
	})
	answer.Go(func() { s.faults.Run(answering) })
	if s.admin != nil {
		answer.Go(func() { failed(s.serveAdmin(answering)) })
	}
	tell.Go(func() { s.evidence.Run(telling) })
	carry.Go(func() { failed(s.obey(carrying)) })
	carry.Go(func() { failed(s.server.Run(carrying)) })

	<-carrying.Done()
	s.log.Info("stopping", "reason", context.Cause(carrying).Error())
	carry.Wait()
	stopTelling()
	tell.Wait()
	stopAnswering(nil)
	answer.Wait()
	stopCarrying(nil)
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(carrying)
}

// obey carries out what the control plane says until ctx ends. When there is no talking to it any more, the last configuration stays; without any, the sidecar is of no use.
func (s *sidecar) obey(ctx context.Context) error {
	hello := wire.Hello{Instance: s.bootstrap.Workload.Instance, Token: s.bootstrap.Token}
	err := wire.Discover(ctx, wire.Unix(s.bootstrap.Control), hello, obeyed(s.server), s.log)
	if err != nil && s.server.Ready() {
		s.log.Error("the configuration stays as it is for good", "error", err)
		return nil
	}
	return err
}

func (s *sidecar) serveAdmin(ctx context.Context) error {
	server := &http.Server{Handler: s.server.Admin(s.level), ReadHeaderTimeout: 10 * time.Second}
	closed := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = server.Close() // whoever asks meanwhile may ask elsewhere
	})
	err := server.Serve(s.admin)
	if !end() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving the admin socket: %w", err)
}
