package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
)

// bootstrap is the document on the bootstrap descriptor: whom the sidecar stands beside, and how to talk to the others. The configuration itself comes from the control plane.
type bootstrap struct {
	Run         string        `json:"run"`         // id of the run, for the log
	Workload    mesh.Workload `json:"workload"`    // whom the sidecar stands beside
	Control     string        `json:"control"`     // socket of the control plane
	Token       string        `json:"token"`       // shown to the control plane
	Direct      string        `json:"direct"`      // socket to listen on for the run: leases and evidence
	DirectToken string        `json:"directToken"` // whom the run shows it
	Admin       string        `json:"admin"`       // socket to listen on for questions; empty: none
	EdgeToken   string        `json:"edgeToken"`   // at an edge: who shows it is the run's own load; empty: nobody is
	LogLevel    slog.Level    `json:"logLevel"`    // DEBUG, INFO, WARN or ERROR
	Drain       time.Duration `json:"drain"`       // nanoseconds that requests get to finish at the end; 0: 5 s
}

func readBootstrap(fd int) (b bootstrap, err error) {
	file := os.NewFile(uintptr(fd), "bootstrap descriptor "+strconv.Itoa(fd))
	if file == nil {
		return b, errors.New("there is no such descriptor")
	}
	defer file.Close()
	dec := json.NewDecoder(file)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		return b, err
	}
	for name, value := range map[string]string{
		"workload.instance": b.Workload.Instance, "control": b.Control, "token": b.Token, "direct": b.Direct, "directToken": b.DirectToken,
	} {
		if value == "" {
			return b, errors.New(name + " must not be empty")
		}
	}
	return b, nil
}

// sidecar makes the parts and opens the sockets, so that whoever started the process finds them; it starts nothing.
func (b bootstrap) sidecar(log *slog.Logger, level *slog.LevelVar) (*sidecar, error) {
	s := newSidecar(proxy.Options{Workload: b.Workload, EdgeToken: b.EdgeToken, Timeouts: proxy.Timeouts{Drain: b.Drain}}, log)
	s.allow = wire.Verify(b.DirectToken)
	s.obey = func(ctx context.Context, sink wire.Sink) error {
		return wire.Discover(ctx, wire.Unix(b.Control), wire.Hello{Instance: b.Workload.Instance, Token: b.Token}, sink, log)
	}
	var err error
	if s.direct, err = wire.Listen(b.Direct); err != nil {
		return nil, err
	}
	if b.Admin != "" {
		admin, err := wire.Listen(b.Admin)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.sites = append(s.sites, site{"admin", admin, s.server.Admin(level)})
	}
	return s, nil
}
