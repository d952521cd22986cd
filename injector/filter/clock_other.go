//go:build !linux

package filter

import "time"

var start = time.Now()

// BootClock is the time since the process started, on a clock that nothing sets. On this system it stands still while the machine sleeps, so that a lease may live
// longer by that.
func BootClock() time.Duration { return time.Since(start) }
