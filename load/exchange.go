package load

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

var errOversize = errors.New("answer is longer than the stream's bound")

// idleTimeout is how long a connection is kept without use. It is shorter than any server's usual patience (Node.js:
// 5 s), so that we, not the server, close it, and no request meets a connection that is just ending.
const idleTimeout = 4 * time.Second

// An exchanger sends one request at a time per caller and measures it.
type exchanger struct {
	stream    Stream
	body      []byte               // as it is sent
	since     func() time.Duration // time since the start of the load
	transport *http.Transport
}

func newExchanger(s Stream, since func() time.Duration) *exchanger {
	var protocols http.Protocols
	body := s.Body
	if s.GRPC {
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
		body = frame(body)
	} else {
		protocols.SetHTTP1(true)
	}
	return &exchanger{stream: s, body: body, since: since, transport: &http.Transport{
		Proxy:               nil, // never from the environment
		DialContext:         counted(s.Dial),
		Protocols:           &protocols,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		DisableCompression:  true, // send what the stream says, count what comes
		MaxIdleConnsPerHost: s.MaxInFlight,
		IdleConnTimeout:     idleTimeout,
	}}
}

// sequence reads the number that vegeta gave the request.
func sequence(req *http.Request) (uint64, error) {
	seq, err := strconv.ParseUint(req.Header.Get("X-Vegeta-Seq"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the request's sequence number: %w", err)
	}
	return seq, nil
}

// do carries out request seq and returns what became of it. When ctx ends first the request is Unanswered.
func (x *exchanger) do(ctx context.Context, vegeta *http.Request, seq uint64, intended time.Duration) Record {
	ctx, cancel := context.WithTimeout(ctx, x.stream.Timeout)
	defer cancel()
	rec := Record{Seq: seq, Intended: intended, Sent: x.since()}
	resp, err := x.roundTrip(ctx, vegeta, &rec)
	if err == nil {
		rec.Answered = x.since()
		rec.Status = resp.StatusCode
		rec.BytesIn, err = x.drain(resp.Body)
		rec.Captured = x.capture(resp)
		if x.stream.GRPC && err == nil {
			rec.Status = outcomeOf(resp)
		}
	}
	rec.Done = x.since()
	rec.Class = classify(err)
	rec.OK = err == nil && x.stream.expects(rec.Status)
	if err != nil {
		rec.Error = err.Error()
	}
	return rec
}

// roundTrip sends the request once. Only a kept connection that turns out to be closed before a single byte was written
// is replaced by another: the server has seen nothing, and no client would report that.
func (x *exchanger) roundTrip(ctx context.Context, vegeta *http.Request, rec *Record) (*http.Response, error) {
	var wire trace
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: wire.getConn, GotConn: wire.gotConn})
	defer func() { rec.Reconnects = wire.reconnects() }()
	for {
		resp, err := x.transport.RoundTrip(x.request(ctx, vegeta, rec.Seq))
		if err == nil || x.stream.GRPC || !wire.stale() || ctx.Err() != nil { // a connection of HTTP/2 is not this request's alone
			return resp, err
		}
	}
}

// request is a fresh copy of vegeta's with the stream's own headers only.
//
// Transport silently sends a request again when a kept connection breaks under it and the request looks idempotent. In
// a test of broken connections that hides the failure and sends one request id twice, so the request gets a body that
// cannot be sent again: an empty one when there is none, with a transfer encoding that sends nothing for it and spares
// the probe whether it is empty. Methods that usually have a body do not look idempotent; they say content-length: 0.
func (x *exchanger) request(ctx context.Context, vegeta *http.Request, seq uint64) *http.Request {
	req := vegeta.WithContext(ctx)
	req.Header = make(http.Header, len(x.stream.Headers)+1)
	maps.Copy(req.Header, x.stream.Headers)
	req.Header["X-Request-Id"] = []string{RequestID(x.stream.Name, seq)}
	if host := x.stream.Headers.Get("Host"); host != "" {
		req.Host = host
	}
	req.GetBody = nil
	req.Body = io.NopCloser(bytes.NewReader(x.body))
	req.ContentLength = int64(len(x.body))
	switch {
	case x.stream.GRPC:
		asCall(req.Header)
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.body)), nil }
	case req.ContentLength > 0:
	case lacksBody(req.Method):
		req.TransferEncoding = []string{"identity"}
	default:
		req.Body = http.NoBody
	}
	return req
}

func lacksBody(method string) bool {
	return slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, method)
}

// capture takes what the stream wants to know of an answer that was read, out of its head or its trailers.
func (x *exchanger) capture(resp *http.Response) map[string]string {
	var captured map[string]string
	for _, name := range x.stream.Capture {
		if value := cmp.Or(resp.Header.Get(name), resp.Trailer.Get(name)); value != "" {
			if captured == nil {
				captured = make(map[string]string, len(x.stream.Capture))
			}
			captured[name] = value
		}
	}
	return captured
}

var buffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// drain reads the body to its end, so that the connection can be used again, and no further than the stream's bound.
func (x *exchanger) drain(body io.ReadCloser) (int64, error) {
	defer body.Close()
	buffer := buffers.Get().(*[16 << 10]byte)
	defer buffers.Put(buffer)
	var total int64
	for {
		n, err := body.Read(buffer[:])
		total += int64(n)
		switch {
		case total > x.stream.MaxBody:
			return total, errOversize
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// A countedConn knows how many bytes were written to it.
type countedConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

func counted(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: conn}, nil
	}
}

// A trace watches the connections that one request gets.
type trace struct {
	conns  atomic.Int32
	kept   atomic.Pointer[countedConn] // the last one, if it had been used before
	before atomic.Int64                // the bytes that had been written to it
}

func (t *trace) getConn(string) { t.kept.Store(nil) }

func (t *trace) gotConn(got httptrace.GotConnInfo) {
	t.conns.Add(1)
	if conn, ok := got.Conn.(*countedConn); ok && got.Reused {
		t.before.Store(conn.written.Load())
		t.kept.Store(conn)
	}
}

func (t *trace) reconnects() int { return max(int(t.conns.Load())-1, 0) }

// stale is true when the last connection was a kept one and nothing was written to it. Transport reports a failure only
// after its writer has ended, so nothing is written later either.
func (t *trace) stale() bool {
	conn := t.kept.Load()
	return conn != nil && conn.written.Load() == t.before.Load()
}
