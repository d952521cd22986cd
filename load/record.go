package load

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// A Record is what became of one request. Times are offsets from Result.Start on the generator's monotonic clock.
type Record struct {
	Seq      uint64
	Intended time.Duration // when the schedule wanted it sent
	Sent     time.Duration // when it was sent; connecting, if need be, comes after that
	Answered time.Duration // when the answer's head was there; 0 without one
	Done     time.Duration // when the answer's last byte was there, or the request had failed

	Status  int   // 0 without an answer; of a call of gRPC the one that stands for its status
	Class   Class // how the exchange failed; None when a whole answer came, whatever its status
	OK      bool  // a whole answer with a status that the stream expects
	Error   string
	BytesIn int64 // of the body

	Captured   map[string]string // the response headers that Stream.Capture names, those present; nil when none is
	Reconnects int               // connections found closed before anything was written, which is safe to try again
}

// Latency is what a user waits who comes when the schedule says: from the intended time to the last byte.
func (r Record) Latency() time.Duration { return r.Done - r.Intended }

// Service is how long the exchange itself took: from sent to the last byte.
func (r Record) Service() time.Duration { return r.Done - r.Sent }

// Slip is how late the request was sent.
func (r Record) Slip() time.Duration { return r.Sent - r.Intended }

// Class says how an exchange failed.
type Class string

const (
	None       Class = ""           // it did not
	Timeout    Class = "timeout"    // Stream.Timeout ran out, or the operating system's
	Refused    Class = "refused"    // nobody listens
	Reset      Class = "reset"      // the connection was broken
	EOF        Class = "eof"        // the connection ended before the answer did
	Oversize   Class = "oversize"   // the answer is longer than Stream.MaxBody
	Unanswered Class = "unanswered" // still under way when the grace was over; given up, no failure of the server
	Other      Class = "other"      // anything else: Error says what
)

// classify is the class of a transport error. Deadlines come first: a read that ran into one may well say "reset" too.
func classify(err error) Class {
	var network net.Error
	var stream streamReset
	switch {
	case err == nil:
		return None
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return Timeout
	case errors.Is(err, context.Canceled):
		return Unanswered
	case errors.Is(err, errOversize):
		return Oversize
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed), errors.As(err, &stream):
		return Reset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), closedIdle(err):
		return EOF
	default:
		return Other
	}
}

// closedIdle recognises net/http's unexported error for a kept connection that ended before the answer began.
func closedIdle(err error) bool {
	return strings.Contains(err.Error(), "server closed idle connection")
}
