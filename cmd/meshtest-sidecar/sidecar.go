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
	"meshtest.dev/meshtest/proxy/zipkin"
)

// heartbeat is how long a sidecar with nothing to tell stays silent. The end of a run waits for it.
const heartbeat = 250 * time.Millisecond

// waitingSpans is how many spans wait for the run, which asks once a second; about 3 MiB.
const waitingSpans = zipkin.DefaultQueue

// sidecar is everything that runs in the process.
type sidecar struct {
	log      *slog.Logger
	server   *proxy.Server
	faults   *filter.Filter
	evidence *telemetry.Evidence
	spans    *zipkin.Exporter
	obey     func(context.Context, wire.Sink) error // lets the sink carry out what the control plane says, until ctx ends or there is no talking to it any more
	allow    func(token string) bool                // who may lease faults and hear evidence
	direct   net.Listener                           // where
	sites    []site
	memory   *memory
}

// site is a listener that answers questions by HTTP.
type site struct {
	name     string
	listener net.Listener
	handler  http.Handler
}

// newSidecar makes the parts. It opens nothing and starts nothing.
func newSidecar(o proxy.Options, log *slog.Logger) *sidecar {
	instance := o.Workload.Instance
	s := &sidecar{log: log, faults: filter.New(instance, filter.BootClock), memory: newMemory()}
	s.evidence = telemetry.NewEvidence(telemetry.EvidenceOptions{Instance: instance, Heartbeat: heartbeat})
	o.Counters = &telemetry.Counters{}
	s.spans = zipkin.NewBuffer(waitingSpans, o.Counters)
	o.Filters, o.Evidence, o.Spans, o.Log = []proxy.Filter{acted(s.faults)}, s.evidence, s.spans, log
	s.server = proxy.New(o)
	return s
}

// TakeSpans gives the spans that wait to the run.
func (s *sidecar) TakeSpans() ([]byte, uint64) {
	return s.spans.Take(zipkin.Endpoint{Service: s.server.Workload().Name})
}

// close closes the listeners of a sidecar that does not run.
func (s *sidecar) close() (err error) {
	if s.direct != nil {
		err = s.direct.Close()
	}
	for _, site := range s.sites {
		err = errors.Join(err, site.listener.Close())
	}
	return err
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
		failed(wire.ServeDirect(answering, s.direct, s.allow, s.faults, told(s.evidence), s))
	})
	answer.Go(func() { s.faults.Run(answering) })
	for _, site := range s.sites {
		answer.Go(func() { failed(site.serve(answering)) })
	}
	tell.Go(func() { s.evidence.Run(telling) })
	carry.Go(func() { failed(s.follow(carrying)) })
	carry.Go(func() { failed(s.server.Run(carrying)) })
	carry.Go(func() { s.memory.run(carrying) })

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

// follow carries out what the control plane says until ctx ends. When there is no talking to it any more, the last configuration stays; without any, the sidecar is of no use.
func (s *sidecar) follow(ctx context.Context) error {
	err := s.obey(ctx, thrifty{obeyed(s.server), s.memory})
	if err != nil && s.server.Ready() {
		s.log.Error("the configuration stays as it is for good", "error", err)
		return nil
	}
	return err
}

// serve answers until ctx ends.
func (s site) serve(ctx context.Context) error {
	server := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	closed := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = server.Close() // whoever asks meanwhile may ask elsewhere
	})
	err := server.Serve(s.listener)
	if !end() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving the %s listener: %w", s.name, err)
}
