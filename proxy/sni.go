package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// maxHello bounds what is read to find a server name: a ClientHello with large post-quantum key shares has some KiB.
const maxHello = 16 << 10

// sniff reads the server name that the caller's TLS asks for, and leaves what it read to be passed on. It is empty when he asks for none, or does not speak TLS.
func (s *stream) sniff() (name string) {
	c := s.c
	c.alarm.enter(readingHead, c.srv.now()+c.srv.opts.Timeouts.Header, nil, c.sock, nil)
	defer c.settle()
	for s.in.len() < maxHello {
		if s.in.fill(c.sock) != nil {
			return ""
		}
		name, err := serverName(s.in.bytes())
		if err != io.ErrUnexpectedEOF {
			return name
		}
	}
	return ""
}

// serverName reads the server name of a ClientHello; io.ErrUnexpectedEOF when it is not there as a whole. crypto/tls does the reading: it answers nobody, and the handshake ends as soon as it has read.
func serverName(hello []byte) (name string, err error) {
	if len(hello) > 0 && hello[0] != 0x16 { // the type of a handshake record
		return "", nil
	}
	replay := &replay{from: bytes.NewReader(hello)}
	err = tls.Server(replay, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name = h.ServerName
		return nil, errRead
	}}).Handshake()
	switch {
	case errors.Is(err, errRead):
		return name, nil
	case replay.short:
		return "", io.ErrUnexpectedEOF
	default:
		return "", nil
	}
}

var errRead = errors.New("the server name was read")

// replay is a connection that only says again what was read.
type replay struct {
	from  *bytes.Reader
	short bool // more was wanted
}

func (r *replay) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.short = r.short || err != nil
	return n, err
}

func (r *replay) Write(p []byte) (int, error)      { return len(p), nil }
func (r *replay) Close() error                     { return nil }
func (r *replay) LocalAddr() net.Addr              { return nil }
func (r *replay) RemoteAddr() net.Addr             { return nil }
func (r *replay) SetDeadline(time.Time) error      { return nil }
func (r *replay) SetReadDeadline(time.Time) error  { return nil }
func (r *replay) SetWriteDeadline(time.Time) error { return nil }
