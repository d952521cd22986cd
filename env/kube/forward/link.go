package forward

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"
)

// link is the shared connection to one pod.
type link struct {
	to    pod
	users int         // guarded by the forwarder
	used  *time.Timer // fires when it has had no users for a while

	ready  chan struct{} // closed when it is established or could not be
	err    error         // why it could not be
	conn   httpstream.Connection
	raw    io.Closer // what is below conn, if that can be had: closing it ends everything at once
	over   chan struct{}
	finish sync.Once
	next   atomic.Int64 // number of the next pair of streams
}

func newLink(to pod) *link {
	l := &link{to: to, used: time.NewTimer(idle), ready: make(chan struct{}), over: make(chan struct{})}
	l.used.Stop()
	return l
}

// establish says what became of connecting.
func (l *link) establish(conn httpstream.Connection, raw io.Closer, err error) {
	l.conn, l.raw, l.err = conn, raw, err
	if err != nil {
		l.cut()
	}
	close(l.ready)
}

// cut says that the link is of no use any more.
func (l *link) cut() { l.finish.Do(func() { close(l.over) }) }

// broken reports whether nothing can be opened on the link any more.
func (l *link) broken() bool {
	select {
	case <-l.over:
		return true
	case <-l.ready:
	default:
		return false
	}
	select {
	case <-l.closed():
		return true
	default:
		return false
	}
}

// closed is closed when the far side has ended a link that is ready; never when it could not be established.
func (l *link) closed() <-chan bool {
	if l.conn == nil {
		return nil
	}
	return l.conn.CloseChan()
}

// broke is why a connection over a broken link ends. It is not io.EOF: who reads to the end has not got everything.
func (l *link) broke(far address) error {
	return fmt.Errorf("%s: %w: %w", far, errBroken, io.ErrUnexpectedEOF)
}

// end closes the connection with everything that is on it.
func (l *link) end() {
	l.cut()
	end(l.conn, l.raw)
}

// end closes what is below first: saying goodbye could wait for a peer that does not read.
func end(conn httpstream.Connection, raw io.Closer) {
	if raw != nil {
		_ = raw.Close()
	}
	if conn != nil {
		_ = conn.Close()
	}
}

// pair are the streams of one forwarded connection.
type pair struct{ failure, data httpstream.Stream }

func (p pair) reset(on httpstream.Connection) {
	for _, s := range []httpstream.Stream{p.data, p.failure} {
		if s != nil {
			_ = s.Reset()
			on.RemoveStreams(s)
		}
	}
}

// open opens streams to a port.
func (l *link) open(ctx context.Context, port int) (pair, error) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return pair{}, context.Cause(ctx)
	}
	if l.err != nil {
		return pair{}, l.err
	}
	type result struct {
		pair
		err error
	}
	opened, abandoned := make(chan result), make(chan struct{})
	go func() { // this knows no context, and does not notice for half a minute that the connection broke
		p, err := l.pair(port)
		if err != nil {
			p.reset(l.conn)
		}
		select {
		case opened <- result{p, err}:
		case <-abandoned:
			p.reset(l.conn)
		}
	}()
	patience := time.NewTimer(opening)
	defer patience.Stop()
	var err error
	select {
	case r := <-opened:
		if r.err != nil {
			return pair{}, fmt.Errorf("%w: %w", errBroken, r.err)
		}
		return r.pair, nil
	case <-l.conn.CloseChan():
		err = errBroken
	case <-l.over:
		err = errBroken
	case <-patience.C:
		err = fmt.Errorf("%w: no stream could be opened for %s", errBroken, opening)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	close(abandoned)
	return pair{}, err
}

// pair opens two streams: one for what went wrong, one for the data.
func (l *link) pair(port int) (p pair, err error) {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.FormatInt(l.next.Add(1), 10))
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	if p.failure, err = l.conn.CreateStream(headers); err != nil {
		return p, fmt.Errorf("opening a stream: %w", err)
	}
	_ = p.failure.Close() // nothing is ever written to it
	headers = headers.Clone()
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	if p.data, err = l.conn.CreateStream(headers); err != nil {
		return p, fmt.Errorf("opening a stream: %w", err)
	}
	return p, nil
}
