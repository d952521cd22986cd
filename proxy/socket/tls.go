package socket

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// secure is TLS on a socket. What has arrived is read ahead into a buffer that is lent for as long as there is something in it, and given to crypto/tls record by record. So it is always known whether
// crypto/tls holds anything that can be read: a connection that waits holds no buffer of ours, and one that lies unused can be looked at.
type secure struct {
	tls     *tls.Conn
	records records

	agreed      atomic.Bool // the handshake is over
	interrupted atomic.Bool

	reading sync.Mutex // is held by whoever reads
	more    bool       // the last read took all that it could hold: there may be more of the same record
	peeked  bool       // first was taken by a look
	first   [1]byte
}

// Client takes over a connection and speaks TLS on it as its client; c may be a *Conn. The handshake is made by Handshake, or else by the first read or write.
func Client(c net.Conn, config *tls.Config) *Conn { return secured(c, config, tls.Client) }

// Server takes over a connection and speaks TLS on it as its server.
func Server(c net.Conn, config *tls.Config) *Conn { return secured(c, config, tls.Server) }

func secured(c net.Conn, config *tls.Config, role func(net.Conn, *tls.Config) *tls.Conn) *Conn {
	below := New(c)
	s := &secure{records: records{Conn: below, waits: true}}
	s.tls = role(&s.records, config)
	return &Conn{net: below, secure: s}
}

// Handshake agrees on TLS; on a connection without TLS it does nothing. When ctx ends before, or the connection is interrupted, the connection is of no use any more. It is the caller's to close.
func (c *Conn) Handshake(ctx context.Context) error {
	if c.secure == nil {
		return nil
	}
	return c.secure.handshake(ctx)
}

// TLS tells what was agreed on; nil without TLS.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.secure == nil {
		return nil
	}
	state := c.secure.tls.ConnectionState()
	return &state
}

// Held reports whether something that arrived may have been read and not been given out: it takes memory, and a Look tells what it is. The caller must be who reads.
func (c *Conn) Held() bool { return c.secure != nil && c.secure.holds() }

func (s *secure) handshake(ctx context.Context) error {
	if s.agreed.Load() {
		return nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.agreed.Load() {
		return nil
	}
	if err := s.tls.HandshakeContext(ctx); err != nil {
		return err
	}
	s.records.waits = false
	s.agreed.Store(true)
	return nil
}

func (s *secure) read(p []byte) (int, error) {
	if err := s.handshake(context.Background()); err != nil {
		return 0, err
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	for {
		if n, err := s.decrypt(p); !isNothing(err) {
			return n, err
		}
		if err := s.records.fill(); err != nil {
			return 0, err
		}
	}
}

func (s *secure) readLent() (*Buffer, int, error) {
	if err := s.handshake(context.Background()); err != nil {
		return nil, 0, err
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	for {
		if s.holds() {
			b := Borrow()
			n, err := s.decrypt(b[:])
			if err == nil {
				return b, n, nil
			}
			Return(b)
			if !isNothing(err) {
				return nil, 0, err
			}
		}
		if err := s.records.fill(); err != nil {
			return nil, 0, err
		}
	}
}

// holds reports whether there may be something to read that has left the socket already.
func (s *secure) holds() bool { return s.peeked || s.more || s.records.ahead != nil }

// decrypt reads what has left the socket already; errNothing: that is not as much as a record with something to read.
func (s *secure) decrypt(p []byte) (int, error) {
	if s.peeked {
		s.peeked = false
		p[0] = s.first[0]
		return 1, nil
	}
	n, err := s.tls.Read(p)
	s.more = n == len(p)
	if n > 0 {
		return n, nil // an error that came with it comes again
	}
	return 0, err
}

// look decrypts what has arrived: only then it is known whether that is data, the other side's goodbye, or something that TLS has to tell itself, like a session ticket.
func (s *secure) look() Presence {
	if !s.reading.TryLock() {
		return Quiet // whoever reads sees it
	}
	defer s.reading.Unlock()
	if !s.agreed.Load() {
		return s.records.Look()
	}
	for !s.peeked {
		if s.holds() {
			switch n, err := s.decrypt(s.first[:]); {
			case n > 0:
				s.peeked = true
				return Ready
			case !isNothing(err):
				return Gone
			}
		}
		if p := s.records.Look(); p != Ready {
			return p
		}
		if err := s.records.fill(); err != nil {
			if Interrupted(err) {
				return Quiet
			}
			return Gone
		}
	}
	return Ready
}

func (s *secure) write(p []byte) (int, error) {
	if s.interrupted.Load() {
		return 0, os.ErrDeadlineExceeded // crypto/tls would not write again after it was told so
	}
	return s.tls.Write(p)
}

// closeWrite says goodbye, and ends the stream below: who does not understand the one understands the other.
func (s *secure) closeWrite() error {
	if err := s.tls.CloseWrite(); err != nil {
		return err
	}
	return s.records.CloseWrite()
}

// close says goodbye if that can be done without waiting.
func (s *secure) close() error {
	s.records.hasty.Store(true)
	return s.tls.Close()
}

// records is a socket that is read record by record.
type records struct {
	*Conn
	waits bool // reads wait; otherwise they fail with errNothing when all that was filled in has been read

	ahead  *Buffer // nil: nothing is ahead
	r, w   int     // what is left of it
	header [recordHeader]byte
	have   int // bytes of the present record's header that were read
	left   int // bytes of the present record behind its header that were not
}

const recordHeader = 5 // bytes: the type, the version (two), the length (two)

// nothing is the error of a read that would have to wait. It is a temporary one, after which crypto/tls goes on where it was.
type nothing struct{}

var errNothing error = nothing{}

func (nothing) Error() string   { return "nothing more has arrived" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

func isNothing(err error) bool { return err == errNothing || err != nil && errors.Is(err, errNothing) }

// fill waits for more, and reads it ahead. There must be nothing ahead.
func (r *records) fill() error {
	b, n, err := r.ReadLent()
	switch {
	case err == nil:
		r.ahead, r.r, r.w = b, 0, n
	case errors.Is(err, io.EOF) && (r.have > 0 || r.left > 0):
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read reads up to the end of a record.
func (r *records) Read(p []byte) (n int, err error) {
	if r.ahead == nil {
		if !r.waits {
			return 0, errNothing
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	if r.left == 0 {
		n = copy(r.header[r.have:], r.ahead[r.r:min(r.w, r.r+len(p))])
		n = copy(p, r.header[r.have:r.have+n])
		r.r += n
		if r.have += n; r.have == recordHeader {
			r.have = 0
			r.left = int(r.header[3])<<8 | int(r.header[4])
		}
	}
	m := copy(p[n:], r.ahead[r.r:min(r.w, r.r+r.left)])
	r.r += m
	r.left -= m
	if r.r == r.w {
		Return(r.ahead)
		r.ahead = nil
	}
	return n + m, nil
}
