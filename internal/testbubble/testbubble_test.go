package testbubble

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Without its confinement this crashes the race detector.
func TestTimersThatAreDueAtOnce(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	for range 100 {
		Test(t, func(t *testing.T) {
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					for range 20 {
						time.AfterFunc(0, func() {})
						<-time.After(time.Millisecond)
					}
				})
			}
			all.Wait()
		})
	}
	require.Equal(t, before, runtime.GOMAXPROCS(0))
}
