package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/mesh"
)

// Giving memory back: a configuration takes several times its size to be read and compiled, and a connection that waits needs half the stack that its requests did. The runtime would keep all that for
// traffic that may never need it, and collects only when much is allocated, which traffic does not do.
const (
	quiet      = time.Second     // without a change; who goes on changing needs the memory again
	often      = 2 * time.Second // between looks
	rarely     = time.Minute     // between them when what was given back was needed again
	worthwhile = 16 << 20        // bytes by which the heap has grown
)

// memory gives what is not needed any more back to the operating system, beside the traffic.
type memory struct {
	changed chan struct{}
	heap    func() uint64 // bytes of the heap, stacks included, that the operating system has given, in use or not
	release func()        // all of them that are not in use
}

func newMemory() *memory {
	return &memory{changed: make(chan struct{}, 1), heap: residentHeap, release: releaseHeap}
}

// note says that a configuration was read, be it good or not.
func (m *memory) note() {
	select {
	case m.changed <- struct{}{}:
	default: // it has been said
	}
}

// run gives memory back, after changes and whenever there is more than there was, until ctx ends.
func (m *memory) run(ctx context.Context) {
	var kept uint64
	pause := often
	look := time.NewTimer(pause)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-m.changed:
			if !m.settle(ctx) {
				return
			}
		}
		if has := m.heap(); has < kept+worthwhile {
			kept, pause = min(kept, has), often
		} else {
			m.release()
			kept, pause = m.heap(), min(2*pause, rarely)
		}
		look.Reset(pause)
	}
}

// settle waits until nothing changes any more; false: ctx has ended.
func (m *memory) settle(ctx context.Context) bool {
	still := time.NewTimer(quiet)
	defer still.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-m.changed:
			still.Reset(quiet)
		case <-still.C:
			return true
		}
	}
}

func residentHeap() (bytes uint64) {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		bytes += s.Value.Uint64()
	}
	return bytes
}

func releaseHeap() {
	runtime.GC() // what lies in a sync.Pool outlives one collection
	debug.FreeOSMemory()
}

// thrifty is a sink after which memory is given back.
type thrifty struct {
	wire.Sink
	memory *memory
}

func (t thrifty) Apply(u mesh.Update) error {
	defer t.memory.note()
	return t.Sink.Apply(u)
}
