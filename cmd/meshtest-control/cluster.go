package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/kube/discovery"
	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
)

// cluster is one control plane of a cluster. It injects pods at all times, and serves sidecars while it leads.
type cluster struct {
	pod, system string // which pod this is, and its namespace
	client      kubernetes.Interface
	source      discovery.Source
	inject      inject.Config
	secrets     secrets
	ownerToken  string
	log         *slog.Logger
	listen      func(port int) (net.Listener, error)

	plane    atomic.Pointer[discovery.Plane] // while it serves; else nil
	reviewer *discovery.Reviewer
}

// run serves until ctx ends, and returns when nothing of it is left. It ends in stages: sidecars are let go and the lead is given up before the rest stops answering.
func (c *cluster) run(ctx context.Context) error {
	if _, err := c.secrets.certificate(); err != nil {
		return err
	}
	informers, err := discovery.NewInformers(c.source)
	if err != nil {
		return err
	}
	c.reviewer = discovery.NewReviewer(c.client, append(slices.Sorted(maps.Keys(c.source.Namespaces)), c.system)...)
	listeners, err := c.open(names.PortReady, names.PortMonitor, names.PortWebhook)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var services sync.WaitGroup
	serve := func(do func(context.Context) error) {
		services.Go(func() {
			if err := do(serving); err != nil {
				stop(err) // what is left without one of its parts is better begun anew
			}
		})
	}
	serve(func(ctx context.Context) error { return c.serveHTTP(ctx, listeners[0], c.health()) })
	serve(func(ctx context.Context) error { return c.serveHTTP(ctx, listeners[1], c.metrics()) })
	serve(func(ctx context.Context) error { return c.serveHTTP(ctx, c.secure(listeners[2]), c.webhook()) })
	serve(func(ctx context.Context) error { informers.Run(ctx); return nil })
	err = c.compete(ctx, informers)
	stopServing()
	services.Wait()
	if err == nil && !errors.Is(context.Cause(ctx), context.Canceled) {
		err = context.Cause(ctx)
	}
	return err
}

// compete takes part in the election once it knows what is there, so that whoever leads can serve at once.
func (c *cluster) compete(ctx context.Context, informers *discovery.Informers) error {
	select {
	case <-ctx.Done():
		return nil
	case <-informers.Synced():
	}
	election := discovery.Election{Client: c.client, Namespace: c.system, Identity: c.pod}
	return election.Run(ctx, func(term context.Context) error {
		err := c.lead(term, informers)
		if term.Err() != nil && !errors.Is(err, control.ErrReplaced) {
			return nil // whatever failed did so because the term ended
		}
		return err
	})
}

// lead serves sidecars and the run.
func (c *cluster) lead(term context.Context, informers *discovery.Informers) error {
	rules, err := discovery.TakeOver(term, c.client, c.system)
	if err != nil {
		return err
	}
	plane, err := discovery.NewPlane(control.Options{OwnerToken: c.ownerToken, Authenticate: c.reviewer.Authenticate, Log: c.log}, informers, rules)
	if err != nil {
		return err
	}
	listener, err := c.listen(names.PortControl)
	if err != nil {
		return fmt.Errorf("listening for sidecars: %w", err)
	}
	c.log.Info("leading", "epoch", rules.Epoch(), "rules", rules.Overlay() != nil)
	defer c.log.Info("no longer leading", "epoch", rules.Epoch())
	g, term := errgroup.WithContext(term)
	g.Go(func() error { return plane.Run(term) })
	g.Go(func() error { return plane.Server().Serve(term, wire.ListenTLS(listener, c.secrets.certificate)) })
	c.plane.Store(plane)
	defer c.plane.Store(nil)
	return g.Wait()
}

// health says whether the process lives, and whether it is the one to talk to.
func (c *cluster) health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET "+names.PathReady, func(w http.ResponseWriter, _ *http.Request) {
		if c.plane.Load() == nil {
			http.Error(w, "does not lead", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "leads")
	})
	return mux
}

// webhook has pods injected.
func (c *cluster) webhook() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(names.PathInject, inject.Handler(func() inject.Config { return c.inject }))
	return mux
}

// secure is for the API server.
func (c *cluster) secure(listener net.Listener) net.Listener {
	return tls.NewListener(listener, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.secrets.certificate() },
		NextProtos:     []string{"http/1.1"},
	})
}

// open listens on several ports, all or none.
func (c *cluster) open(ports ...int) (all []net.Listener, err error) {
	for _, port := range ports {
		listener, err := c.listen(port)
		if err != nil {
			for _, l := range all {
				err = errors.Join(err, l.Close())
			}
			return nil, fmt.Errorf("listening on port %d: %w", port, err)
		}
		all = append(all, listener)
	}
	return all, nil
}

// farewell is how long answers in progress may take when the server ends.
const farewell = 2 * time.Second

// serveHTTP serves until ctx ends, and returns when nobody is being answered any more.
func (c *cluster) serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(ended)
		finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		if server.Shutdown(finishing) != nil {
			_ = server.Close() // who is not done by now asks again elsewhere
		}
	})
	err := server.Serve(listener)
	if !end() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving %s: %w", listener.Addr(), err)
}
