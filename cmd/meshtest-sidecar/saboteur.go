//go:build saboteur

package main

import (
	"context"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
)

// sabotage names what this binary breaks; the linker sets it.
var sabotage string

// The sabotages.
const (
	neverAcknowledges = "never-acknowledges" // route tables are taken and never acknowledged
	idleFault         = "idle-fault"         // faults say that they act, and do nothing
	swappedVersions   = "swapped-versions"   // evidence names prod's requests canary and the other way round
	silentEvidence    = "silent-evidence"    // evidence stops after a second
)

func obeyed(s wire.Sink) wire.Sink {
	if sabotage != neverAcknowledges {
		return s
	}
	return stubborn{s, make(chan struct{})}
}

// stubborn takes the first configuration and hangs on every route table after it.
type stubborn struct {
	wire.Sink
	never chan struct{}
}

func (s stubborn) Apply(u mesh.Update) error {
	if u.Kind == mesh.KindRouteTable && u.Generation.Counter > 1 {
		<-s.never
	}
	return s.Sink.Apply(u)
}

func acted(f proxy.Filter) proxy.Filter {
	if sabotage != idleFault {
		return f
	}
	return idle{f}
}

// idle lets the fault decide and account, and lets the request pass.
type idle struct{ proxy.Filter }

func (i idle) Decide(at proxy.Point, x *proxy.Exchange) proxy.Verdict {
	v := i.Filter.Decide(at, x)
	if v.Effect != nil {
		v.Effect.Done(proxy.Carried{Answered: v.Status != 0, Delayed: v.Delay})
	}
	return proxy.Verdict{}
}

func told(e wire.EvidenceSource) wire.EvidenceSource {
	switch sabotage {
	case swappedVersions:
		return swapped{e}
	case silentEvidence:
		return &silent{source: e, until: time.Now().Add(time.Second)}
	default:
		return e
	}
}

type swapped struct{ wire.EvidenceSource }

func (s swapped) Next(ctx context.Context, from uint64) (mesh.EvidenceBlock, error) {
	b, err := s.EvidenceSource.Next(ctx, from)
	cells := append([]mesh.EvidenceCell(nil), b.Cells...)
	for i := range cells {
		switch cells[i].Version {
		case "prod":
			cells[i].Version = "canary"
		case "canary":
			cells[i].Version = "prod"
		}
	}
	b.Cells = cells
	return b, err
}

type silent struct {
	source wire.EvidenceSource
	until  time.Time
}

func (s *silent) Next(ctx context.Context, from uint64) (mesh.EvidenceBlock, error) {
	if time.Now().After(s.until) {
		<-ctx.Done()
		return mesh.EvidenceBlock{}, ctx.Err()
	}
	return s.source.Next(ctx, from)
}
