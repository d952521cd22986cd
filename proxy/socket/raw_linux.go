package socket

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const rawSupported = true

// The calls below go to the kernel without telling the scheduler: the descriptors are non-blocking, so that a call never waits, and the hand-over of the processor that
// an announced call may bring costs more than the call. Each tries before it waits: the poller reports edges, and a wait without a try
// loses one that came before. Only who asks first may wait for the answer without one, and who never stops waiting.

// tryRead is one attempt at the read in progress; false: wait and call again.
func (c *Conn) tryRead(fd uintptr) bool {
	if c.in.asks != nil && !c.ask(fd) {
		return c.in.err != nil
	}
	p := c.in.p
	if c.in.lending {
		c.in.borrowed = Borrow()
		p = c.in.borrowed[:]
	}
	for {
		// Read would go through the file system's layer first.
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
		switch errno {
		case 0:
			c.in.n = int(n)
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			if c.in.lending {
				Return(c.in.borrowed)
				c.in.borrowed = nil
			}
			return false
		default:
			c.in.err = errno
			return true
		}
	}
}

// tryEach is tryRead for Each. What has filled a buffer may have left something behind, of which nobody will tell.
func (c *Conn) tryEach(fd uintptr) bool {
	for c.tryRead(fd) {
		b := c.in.borrowed
		c.in.borrowed = nil
		if c.in.err != nil || c.in.n == 0 {
			Return(b)
			return true
		}
		full := c.in.n == BufferSize
		if !c.in.take(b, c.in.n) {
			c.in.take = nil
			return true
		}
		if !full {
			return false
		}
	}
	return false
}

// ask writes what comes before the read, which is how the wait needs no try: the edge of the answer cannot have come yet. It reports whether to read at once.
func (c *Conn) ask(fd uintptr) bool {
	c.out.p, c.in.asks = c.in.asks, nil
	whole := c.tryWrite(fd)
	c.out.p = nil
	if !whole {
		c.in.err = errHalfAsked
	}
	return c.out.err != nil
}

// tryWrite writes as much of the write in progress as the kernel takes; false: wait and call again.
func (c *Conn) tryWrite(fd uintptr) bool {
	for c.out.n < len(c.out.p) {
		p := c.out.p[c.out.n:]
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			c.out.n += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			if c.hasty.Load() {
				c.out.err = os.ErrDeadlineExceeded
				return true
			}
			return false
		default:
			c.out.err = errno
			return true
		}
	}
	return true
}

// tryLook peeks at one byte.
func (c *Conn) tryLook(fd uintptr) {
	var one [1]byte
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		c.see.presence = Quiet
	case errno != 0 || n == 0:
		c.see.presence = Gone
	default:
		c.see.presence = Ready
	}
}

// tryCount asks how much has arrived.
func (c *Conn) tryCount(fd uintptr) {
	n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
	c.see.waiting = n
	if err != nil {
		c.see.waiting = 0
	}
}
