package run

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/mesh"
)

// fakeSidecar is one sidecar. Its fields are guarded by the world's mutex.
type fakeSidecar struct {
	world    *world
	workload mesh.Workload
	began    time.Time
	wire     *bufconn.Listener
	http     *bufconn.Listener
	stop     context.CancelFunc

	blocks   []mesh.EvidenceBlock
	cells    []mesh.EvidenceCell
	edges    []mesh.EdgeCount
	more     chan struct{} // closed and replaced at every block
	leases   map[string]mesh.Fault
	accounts map[string]mesh.Accounting
	moved    chan struct{} // closed and replaced when an account changes
	answered uint64        // requests, as the callee
	copied   uint64        // requests, for a mirror: the version v2 of backend
	ended    bool          // it says no more
	spans    []string      // that wait, in Zipkin's JSON
}

func (s *fakeSidecar) TakeSpans() ([]byte, uint64) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	taken := "[" + strings.Join(s.spans, ",") + "]"
	s.spans = nil
	return []byte(taken), 0
}

func (s *fakeSidecar) sidecar() env.Sidecar {
	dial := func(l *bufconn.Listener) wire.Dial {
		return func(ctx context.Context) (net.Conn, error) { return l.DialContext(ctx) }
	}
	return env.Sidecar{
		Workload: s.workload, Process: s.workload.Instance + ".sidecar",
		Direct:  wire.NewDirect(dial(s.wire), "token"),
		Metrics: env.MetricsTarget{Dial: dial(s.http), URL: "http://sidecar/metrics"},
	}
}

// run cuts a block of evidence ten times a second.
func (s *fakeSidecar) run(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.world.mu.Lock()
			if s.ended {
				s.world.mu.Unlock()
				return
			}
			end := time.Since(s.began)
			s.blocks = append(s.blocks, mesh.EvidenceBlock{Instance: s.workload.Instance, Seq: uint64(len(s.blocks) + 1), Start: end - beat, End: end, Cells: s.cells, Edges: s.edges})
			s.cells, s.edges = nil, nil
			close(s.more)
			s.more = make(chan struct{})
			s.world.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

func (s *fakeSidecar) Next(ctx context.Context, from uint64) (mesh.EvidenceBlock, error) {
	for {
		s.world.mu.Lock()
		i := slices.IndexFunc(s.blocks, func(b mesh.EvidenceBlock) bool { return b.Seq >= from })
		more, ended := s.more, s.ended
		var block mesh.EvidenceBlock
		if i >= 0 {
			block = s.blocks[i]
		}
		s.world.mu.Unlock()
		if i >= 0 {
			return block, nil
		}
		if ended {
			return mesh.EvidenceBlock{}, io.EOF
		}
		select {
		case <-more:
		case <-ctx.Done():
			return mesh.EvidenceBlock{}, ctx.Err()
		}
	}
}

func (s *fakeSidecar) Lease(l mesh.Lease, fault mesh.Fault) error {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	a := s.accounts[l.Fault]
	a.Fault, a.Executor = l.Fault, s.workload.Instance
	if l.TTL == 0 {
		delete(s.leases, l.Fault)
		a.State = mesh.LeaseReleased
	} else {
		s.leases[l.Fault] = fault
		a.State = mesh.LeaseHeld
	}
	s.account(a)
	return nil
}

// account changes an account; the caller holds the mutex.
func (s *fakeSidecar) account(a mesh.Accounting) {
	s.accounts[a.Fault] = a
	close(s.moved)
	s.moved = make(chan struct{})
}

func (s *fakeSidecar) Account(fault string) (mesh.Accounting, <-chan struct{}, bool) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	a, ok := s.accounts[fault]
	return a, s.moved, ok
}

func (s *fakeSidecar) metrics(w http.ResponseWriter, _ *http.Request) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# TYPE istio_requests_total counter\nistio_requests_total{reporter=%q,destination_app=%q,destination_version=%q} %d\n",
		"destination", s.workload.Service, s.workload.Version, s.answered)
	fmt.Fprintf(w, "# TYPE meshtest_sidecar_mirrored_total counter\nmeshtest_sidecar_mirrored_total{outcome=%q,to=%q,version=%q} %d\n", "answered", "backend", "v2", s.copied)
}

// one counts one request that a caller sends.
func (s *fakeSidecar) one(edge mesh.Edge, stream, route, version string, share float64, i int) {
	w := s.world
	byFault := false
	for id, fault := range s.leases {
		if fault.From != edge.From || fault.To != edge.To {
			continue
		}
		a := s.accounts[id]
		a.Matched++
		if fault.Abort != nil && float64(a.Aborted) < fault.Abort.Share*float64(a.Matched) {
			a.Aborted++
			byFault = true
		}
		s.account(a)
	}
	at := slices.IndexFunc(s.cells, func(c mesh.EvidenceCell) bool { return c.Edge == edge && c.Stream == stream && c.Version == version })
	if at < 0 {
		s.cells = append(s.cells, mesh.EvidenceCell{Edge: edge, Stream: stream, Route: route, Version: version, Share: share, Generation: w.generation})
		at = len(s.cells) - 1
	}
	cell := &s.cells[at]
	cell.Requests++
	if byFault {
		cell.Failed++
		cell.ByFault++
		return
	}
	cell.Attempts++
	var latency hist.Histogram
	_ = latency.AddSparse(cell.Latency)
	latency.Record(5*time.Millisecond + time.Duration(i%20)*500*time.Microsecond)
	cell.Latency = latency.AppendSparse(nil)
	for _, callee := range w.of(edge.To) {
		if callee.workload.Version == version || edge.To != "backend" {
			callee.answered++
			return
		}
	}
}
