// Package forward opens connections to pods through the API server, as `kubectl port-forward` does: whoever can use the cluster can reach a pod so, from wherever
// he is, and nothing of the pod has to be exposed. All connections to a pod share one to the API server, which is made when it is needed, made again when it broke,
// and given up when nobody has used it for a while.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
)

// Bounds.
const (
	establish = 30 * time.Second // for a connection to the API server
	idle      = time.Minute      // after which a connection to a pod that nobody uses is given up
	opening   = 3 * time.Second  // for the far side to agree to another stream
	attempts  = 3                // of one Dial, when connections that are there turn out to be broken
)

// errBroken ends everything that was on a connection to the API server.
var errBroken = errors.New("the connection to the API server broke")

// Forwarder reaches the pods of one cluster. It is safe for concurrent use.
type Forwarder struct {
	config  *rest.Config
	client  kubernetes.Interface
	closing chan struct{}

	mu     sync.Mutex
	links  map[pod]*link
	closed bool
	users  sync.WaitGroup // of links, and their owners; grows under mu only while not closed
}

// pod names one.
type pod struct{ namespace, name string }

// New prepares a forwarder. It asks the cluster nothing yet.
func New(config *rest.Config) (*Forwarder, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	return &Forwarder{config: config, client: client, links: map[pod]*link{}, closing: make(chan struct{})}, nil
}

// Dial returns the way to a port of a pod, on the pod's own loopback: what listens on 127.0.0.1 there is reached, too.
//
// That nobody listens shows at the first Read, as an error that is syscall.ECONNREFUSED; a connection whose way broke ends with an error that is not io.EOF. Deadlines
// work as on any connection, and so does backpressure. CloseWrite tells the far side that no more comes; container runtimes then end the whole connection within
// about a second, so what is to be answered after that has to be quick. An end that the application itself begins can arrive as late, for the same reason.
func (f *Forwarder) Dial(namespace, name string, port int) func(context.Context) (net.Conn, error) {
	to := pod{namespace, name}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := f.dial(ctx, to, port)
		if err != nil {
			return nil, fmt.Errorf("reaching %s: %w", address{to, port}, err)
		}
		return conn, nil
	}
}

// Close ends every connection and returns when nothing of them is left.
func (f *Forwarder) Close() {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.closing)
	}
	f.mu.Unlock()
	f.users.Wait()
}

func (f *Forwarder) dial(ctx context.Context, to pod, port int) (net.Conn, error) {
	var err error
	for range attempts {
		l, fresh := f.join(to)
		if l == nil {
			return nil, net.ErrClosed
		}
		var p pair
		if p, err = l.open(ctx, port); err == nil {
			c := newConn(address{to, port})
			go func() {
				defer f.leave(l)
				c.run(l, p, func() { f.retire(l) })
			}()
			return c, nil
		}
		broken := errors.Is(err, errBroken)
		if broken {
			f.retire(l)
		}
		f.leave(l)
		if fresh || !broken {
			break
		}
	}
	return nil, err
}

// join returns the link to a pod, which it makes when there is none that works; the caller has to leave it. It is nil when the forwarder is closed.
func (f *Forwarder) join(to pod) (l *link, fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false
	}
	if l = f.links[to]; l == nil || l.broken() {
		l, fresh = newLink(to), true
		f.links[to] = l
		f.users.Go(func() { f.own(l) })
	}
	l.users++
	l.used.Stop()
	f.users.Add(1)
	return l, fresh
}

// leave gives a link back. The last one starts its clock, or ends it when it is retired.
func (f *Forwarder) leave(l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.users--
	switch {
	case l.users > 0:
	case f.links[l.to] == l:
		l.used.Reset(idle)
	default:
		l.cut()
	}
	f.users.Done()
}

// retire takes a link out of use that may be stuck: what is on it goes on if it can, what is new gets another one.
//
// That happens because SPDY has no flow control of single streams, and kubelets stop reading a stream when its application has ended: what is on its way to it then stays in front
// of everything behind it.
func (f *Forwarder) retire(l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.links[l.to] == l {
		delete(f.links, l.to)
	}
}

// own connects a link, and ends it when it broke, when nobody needs it any more, or when the forwarder is closed.
func (f *Forwarder) own(l *link) {
	f.connect(l)
	defer l.end()
	for {
		select {
		case <-l.over:
		case <-l.closed():
		case <-f.closing:
		case <-l.used.C:
			if f.inUse(l) {
				continue
			}
		}
		f.retire(l)
		return
	}
}

// inUse reports whether somebody has joined after all; if not, nobody will.
func (f *Forwarder) inUse(l *link) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.users == 0 && f.links[l.to] == l {
		delete(f.links, l.to)
	}
	return l.users > 0
}

// connect makes the connection of a link, within bounds and until the forwarder is closed.
func (f *Forwarder) connect(l *link) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), establish, fmt.Errorf("the API server did not answer within %s", establish))
	defer cancel()
	f.users.Go(func() {
		select {
		case <-f.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	type result struct {
		conn httpstream.Connection
		raw  io.Closer
		err  error
	}
	done, abandoned := make(chan result), make(chan struct{})
	go func() { // a handshake does not always notice that ctx has ended
		conn, raw, err := upgrade(ctx, f.config, f.client, l.to)
		select {
		case done <- result{conn, raw, err}:
		case <-abandoned:
			end(conn, raw)
		}
	}()
	select {
	case r := <-done:
		l.establish(r.conn, r.raw, r.err)
	case <-ctx.Done():
		close(abandoned)
		l.establish(nil, nil, context.Cause(ctx))
	}
}

// address is the far end of a connection.
type address struct {
	pod
	port int
}

// Network is that of a net.Addr.
func (address) Network() string { return "portforward" }

func (a address) String() string {
	if a == (address{}) {
		return "the API server's client"
	}
	return fmt.Sprintf("port %d of pod %s in namespace %s", a.port, a.name, a.namespace)
}
