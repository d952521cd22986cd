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

// Giving memory back: a configuration takes several times its size to be read and compiled, and the runtime would keep what that left behind for traffic that never needs it.
const (
	quiet      = time.Second // without a change; who goes on changing needs the memory again
	worthwhile = 16 << 20    // bytes by which the heap has grown
)

// memory gives what changes of the configuration left behind back to the operating system, beside the traffic.
type memory struct {
	changed chan struct{}
	heap    func() uint64 // bytes of the heap that the operating system has given, in use or not
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

// run gives memory back after changes until ctx ends.
func (m *memory) run(ctx context.Context) {
	var kept uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
		}
		if !m.settle(ctx) {
			return
		}
		if m.heap() < kept+worthwhile {
			continue
		}
		m.release()
		kept = m.heap()
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
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
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
