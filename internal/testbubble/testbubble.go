// Package testbubble runs tests in bubbles of their own time, in a way that the race detector survives.
package testbubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var processors struct {
	mu      sync.Mutex
	bubbles int // that are
	before  int // processors without any
}

// Test is [synctest.Test]. With the race detector there is one processor meanwhile: timers of one bubble that are due as they are made, on two processors at once, crash the detector
// (golang.org/issue/78156). What it finds does not depend on that.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceDetector {
		confine()
		defer release()
	}
	synctest.Test(t, f)
}

func confine() {
	p := &processors
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bubbles == 0 {
		p.before = runtime.GOMAXPROCS(1)
	}
	p.bubbles++
}

func release() {
	p := &processors
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bubbles--; p.bubbles == 0 {
		runtime.GOMAXPROCS(p.before)
	}
}
