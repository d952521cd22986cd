//go:build !linux

package load

import "time"

// nap sleeps for d, as exactly as the runtime can.
func nap(d time.Duration) { time.Sleep(d) }
