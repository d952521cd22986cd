package load

import (
	"syscall"
	"time"
)

// nap sleeps for d, a millisecond at most, as exactly as the kernel can. A signal may end it early.
func nap(d time.Duration) {
	t := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&t, nil)
}
