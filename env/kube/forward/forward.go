// Package forward opens connections to pods through the API server, as `kubectl port-forward` does: whoever can use the cluster can reach a pod so, from wherever
// he is, and nothing of the pod has to be exposed. All connections to a pod share one to the API server.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// Forwarder reaches the pods of one cluster. It is safe for concurrent use.
type Forwarder struct {
	config *rest.Config
	client kubernetes.Interface

	mu     sync.Mutex
	links  map[pod]*link
	ends   map[net.Conn]bool // the far ends of connections under way
	closed bool
	copies sync.WaitGroup // of connections under way
}

// pod names one.
type pod struct{ namespace, name string }

// link is the shared connection to one pod, made when it is needed.
type link struct {
	mu   sync.Mutex
	conn httpstream.Connection // nil: none, or the last one broke
	next int                   // id of the next pair of streams
}

// New prepares a forwarder.
func New(config *rest.Config) (*Forwarder, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	return &Forwarder{config: config, client: client, links: map[pod]*link{}, ends: map[net.Conn]bool{}}, nil
}

// Dial returns the way to a port of a pod, on the pod's own loopback: what listens on 127.0.0.1 there is reached, too. That nobody listens shows at the first read. Deadlines
// work as on any connection.
func (f *Forwarder) Dial(namespace, name string, port int) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := f.dial(ctx, pod{namespace, name}, port)
		if err != nil {
			return nil, fmt.Errorf("reaching port %d of pod %s in namespace %s: %w", port, name, namespace, err)
		}
		return conn, nil
	}
}

// Close ends every connection and returns when nothing of them is left.
func (f *Forwarder) Close() {
	f.mu.Lock()
	f.closed = true
	links := f.links
	f.links = map[pod]*link{}
	for end := range f.ends {
		end.Close()
	}
	f.mu.Unlock()
	f.copies.Wait()
	for _, l := range links {
		l.mu.Lock()
		if l.conn != nil {
			l.conn.Close()
		}
		l.mu.Unlock()
	}
}

func (f *Forwarder) dial(ctx context.Context, to pod, port int) (net.Conn, error) {
	f.mu.Lock()
	l := f.links[to]
	if l == nil {
		l = &link{}
		f.links[to] = l
	}
	closed := f.closed
	f.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	type opened struct {
		conn net.Conn
		err  error
	}
	done := make(chan opened, 1) // neither the dialer nor the streams know of contexts
	go func() {
		conn, err := f.open(l, to, port)
		done <- opened{conn, err}
	}()
	select {
	case o := <-done:
		return o.conn, o.err
	case <-ctx.Done():
		go func() {
			if o := <-done; o.conn != nil {
				o.conn.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// open makes a pair of streams on the pod's connection: one for errors, one for data.
func (f *Forwarder) open(l *link, to pod, port int) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		select {
		case <-l.conn.CloseChan():
			l.conn = nil
		default:
		}
	}
	fresh := l.conn == nil
	if fresh {
		conn, err := f.connect(to)
		if err != nil {
			return nil, err
		}
		l.conn = conn
	}
	conn, err := f.streams(l, port)
	if err != nil {
		l.conn.Close()
		l.conn = nil
		if !fresh { // the old one may have broken unnoticed
			if l.conn, err = f.connect(to); err == nil {
				conn, err = f.streams(l, port)
			}
		}
	}
	return conn, err
}

// connect upgrades a request to the API server: over a WebSocket, or over SPDY where an older server or a proxy on the way knows nothing else.
func (f *Forwarder) connect(to pod) (httpstream.Connection, error) {
	url := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(to.namespace).Name(to.name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(f.config)
	if err != nil {
		return nil, err
	}
	old := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(url, f.config)
	if err != nil {
		return nil, err
	}
	dialer := portforward.NewFallbackDialer(tunnel, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	return conn, err
}

func (f *Forwarder) streams(l *link, port int) (net.Conn, error) {
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(l.next))
	l.next++
	failure, err := l.conn.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	_ = failure.Close() // nothing is ever written to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := l.conn.CreateStream(headers)
	if err != nil {
		l.conn.RemoveStreams(failure)
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	return f.join(l.conn, failure, data, port), nil
}

// lastWord is how long the end of a connection waits for why it ended.
const lastWord = 250 * time.Millisecond

// join makes the streams a connection with deadlines.
func (f *Forwarder) join(on httpstream.Connection, failure, data httpstream.Stream, port int) net.Conn {
	ours, theirs := net.Pipe()
	c := &conn{Conn: ours, port: port}
	f.mu.Lock()
	f.ends[theirs] = true
	f.mu.Unlock()
	f.copies.Go(func() {
		var both sync.WaitGroup
		told := make(chan struct{})
		both.Go(func() { // what the other side says went wrong
			defer close(told)
			if text, err := io.ReadAll(failure); err == nil && len(text) > 0 {
				c.failure.Store(ptr(strings.TrimSpace(string(text))))
			}
		})
		both.Go(func() {
			_, _ = io.Copy(theirs, data)
			select {
			case <-told:
			case <-time.After(lastWord):
			}
			theirs.Close()
		})
		_, _ = io.Copy(data, theirs) // ends when either side closes
		theirs.Close()
		_ = data.Reset()
		_ = failure.Reset()
		on.RemoveStreams(failure, data)
		both.Wait()
		f.mu.Lock()
		delete(f.ends, theirs)
		f.mu.Unlock()
	})
	return c
}

func ptr[T any](v T) *T { return &v }

// conn is a forwarded connection.
type conn struct {
	net.Conn
	port    int
	failure atomic.Pointer[string]
}

// Read is that of the pipe, but an end says why.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)) {
		if text := c.failure.Load(); text != nil {
			return n, fmt.Errorf("port %d: %s", c.port, *text)
		}
	}
	return n, err
}
