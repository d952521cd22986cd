package upstream

import (
	"cmp"
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// Stats is what a pool did and holds.
type Stats struct {
	Address         string `json:"address"`
	Destination     string `json:"destination,omitempty"` // whose connections these are: HOST:PORT, or HOST:PORT/SUBSET
	TLS             bool   `json:"tls,omitempty"`
	Protocol        string `json:"protocol,omitempty"` // http/1.1, which stands for everything that is not h2, or h2; empty: it is not known yet
	Active          int64  `json:"active"`             // requests in flight
	Connections     int64  `json:"connections"`        // open
	Idle            int    `json:"idle"`               // of them, unused
	Streams         int    `json:"streams,omitempty"`  // of HTTP/2, open
	Pending         int    `json:"pending,omitempty"`  // requests that wait for a connection
	Requests        uint64 `json:"requests"`           // ever
	Connects        uint64 `json:"connects"`           // connections ever made
	ConnectFailures uint64 `json:"connectFailures"`    // ever, those of TLS too
}

// DestinationStats is what a destination has of what is limited, and how often that was too much. The counters are Envoy's.
type DestinationStats struct {
	Name            string              `json:"name"` // HOST:PORT, or HOST:PORT/SUBSET
	Limits          mesh.ConnectionPool `json:"limits"`
	Connections     int                 `json:"connections"` // those that are being made too
	Pending         int                 `json:"pending"`     // requests that wait for a connection
	Requests        int64               `json:"requests"`    // in flight, if they are limited
	Retries         int64               `json:"retries"`     // in flight
	CxOverflow      uint64              `json:"upstream_cx_overflow"`
	PendingOverflow uint64              `json:"upstream_rq_pending_overflow"`
	RetryOverflow   uint64              `json:"upstream_rq_retry_overflow"`
}

// Stats tells the state of all pools, by address and destination.
func (ps *Pools) Stats() []Stats {
	ps.mu.Lock()
	all := slices.Collect(maps.Values(ps.pools))
	ps.mu.Unlock()
	stats := make([]Stats, len(all))
	for i, p := range all {
		stats[i] = p.stats()
	}
	slices.SortFunc(stats, func(a, b Stats) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Destination, b.Destination))
	})
	return stats
}

// Destinations tells the state of all destinations that were ever connected to, by name: those in force (see Follow), and those that still have something.
func (ps *Pools) Destinations() []DestinationStats {
	ps.mu.Lock()
	ps.forget()
	all := slices.Collect(maps.Values(ps.accounts))
	ps.mu.Unlock()
	var stats []DestinationStats
	for _, a := range all {
		if s, ok := a.stats(); ok {
			stats = append(stats, s)
		}
	}
	slices.SortFunc(stats, func(a, b DestinationStats) int { return cmp.Compare(a.Name, b.Name) })
	return stats
}

func (p *Pool) stats() Stats {
	s := Stats{
		Address: p.Address, Destination: p.account.name, TLS: p.transport.security != nil, Protocol: p.spoken().String(),
		Active: p.active.Load(), Pending: int(p.waiting.Load()), Requests: p.requests.Load(), Connects: p.connects.Load(), ConnectFailures: p.failures.Load(),
	}
	p.account.mu.Lock()
	s.Connections = int64(p.open)
	p.account.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Idle = len(p.idle)
	for _, m := range p.muxes {
		s.Streams += m.streams
		if m.streams == 0 {
			s.Idle++
		}
	}
	return s
}

func (a *account) stats() (s DestinationStats, used bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return DestinationStats{
		Name: a.name, Limits: a.limits, Connections: a.open, Pending: a.waiting.n, Requests: a.requests.Load(), Retries: a.retries.Load(),
		CxOverflow:      a.overflows[TooManyConnections].Load(),
		PendingOverflow: a.overflows[TooManyPending].Load() + a.overflows[TooManyRequests].Load(),
		RetryOverflow:   a.overflows[TooManyRetries].Load(),
	}, a.serial > 0
}
