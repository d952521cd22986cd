package filter

import (
	"time"

	"golang.org/x/sys/unix"
)

// BootClock is the time since the machine booted, sleep included. Nothing sets it.
func BootClock() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic("this kernel has no boot-time clock: " + err.Error()) // Linux before 2.6.39
	}
	return time.Duration(now.Nano())
}
