package forward

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	protocol "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// apiServer is an API server and a kubelet with one pod, "web" in namespace "shop", whose ports are those of this machine. It behaves as the real ones with containerd:
// tests against a cluster hold it to that.
type apiServer struct {
	*httptest.Server
	sockets   bool // it knows WebSockets
	upgrades  atomic.Int64
	refusals  atomic.Int64 // of WebSockets
	sandbox   atomic.Int64 // of the pod: another one after it was made again
	mu        sync.Mutex
	conns     []net.Conn
	handshake chan struct{} // not nil: an upgrade waits for it
}

func newAPIServer(t *testing.T, sockets bool) *apiServer {
	s := &apiServer{sockets: sockets}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, wire{}, c) }
	s.Start()
	t.Cleanup(func() { s.breakAll(); s.Close() })
	return s
}

func (s *apiServer) forwarder(t *testing.T) *Forwarder {
	f, err := New(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// wire is the key of a request's connection in its context.
type wire struct{}

// breakAll breaks every connection, as a load balancer does that has been restarted: without a goodbye.
func (s *apiServer) breakAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

// keep counts a connection, and lets its streams go on from now on: who has one can break it.
func (k *kubelet) keep(r *http.Request) {
	k.server.upgrades.Add(1)
	k.server.mu.Lock()
	defer k.server.mu.Unlock()
	k.server.conns = append(k.server.conns, r.Context().Value(wire{}).(net.Conn))
	close(k.kept)
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.handshake != nil {
		select {
		case <-s.handshake:
		case <-r.Context().Done():
			return
		}
	}
	if r.URL.Path != "/api/v1/namespaces/shop/pods/web/portforward" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods \"nobody\" not found","reason":"NotFound","code":404}`)
		return
	}
	k := &kubelet{server: s, sandbox: s.sandbox.Load(), pairs: map[string]*kubeletPair{}, kept: make(chan struct{})}
	if gorilla.IsWebSocketUpgrade(r) {
		if !s.sockets {
			s.refusals.Add(1)
			http.Error(w, "unable to upgrade", http.StatusBadRequest)
			return
		}
		upgrader := gorilla.Upgrader{Subprotocols: []string{protocol.WebsocketsSPDYTunnelingPrefix + protocol.PortForwardV1Name}}
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		raw := portforward.NewTunnelingConnection("server", socket)
		conn, err := spdy.NewServerConnection(raw, k.take)
		if err != nil {
			return
		}
		k.keep(r)
		<-conn.CloseChan()
		k.work.Wait()
		return
	}
	if _, err := httpstream.Handshake(r, w, []string{protocol.PortForwardV1Name}); err != nil {
		return
	}
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, k.take)
	if conn == nil {
		return
	}
	k.keep(r)
	<-conn.CloseChan()
	k.work.Wait()
}

// kubelet joins the streams of one connection, and copies as containerd does.
type kubelet struct {
	server  *apiServer
	sandbox int64
	kept    chan struct{} // closed when the connection is
	mu      sync.Mutex
	pairs   map[string]*kubeletPair
	work    sync.WaitGroup
}

type kubeletPair struct{ failure, data httpstream.Stream }

func (k *kubelet) take(stream httpstream.Stream, replied <-chan struct{}) error {
	<-k.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	id := stream.Headers().Get(corev1.PortForwardRequestIDHeader)
	p := k.pairs[id]
	if p == nil {
		p = &kubeletPair{}
		k.pairs[id] = p
	}
	if stream.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
		p.failure = stream
	} else {
		p.data = stream
	}
	if p.failure != nil && p.data != nil {
		k.work.Go(func() {
			<-replied
			p.serve(k.sandbox == k.server.sandbox.Load())
		})
	}
	return nil
}

func (p *kubeletPair) serve(there bool) {
	defer p.data.Close()
	defer p.failure.Close()
	if !there {
		fmt.Fprint(p.failure, `error forwarding port 80 to pod 1234, uid : network namespace for sandbox "1234" is closed`)
		return
	}
	port := p.data.Headers().Get(corev1.PortHeader)
	app, err := net.Dial("tcp4", "127.0.0.1:"+port)
	if err != nil {
		fmt.Fprintf(p.failure, "error forwarding port %s to pod 1234, uid : failed to execute portforward in network namespace: failed to connect to localhost:%s: %v", port, port, err)
		return
	}
	defer app.Close()
	ended := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(app, p.data); ended <- struct{}{} }()
	go func() { _, _ = io.Copy(p.data, app); ended <- struct{}{} }()
	<-ended
	select {
	case <-ended:
	case <-time.After(time.Second): // containerd's patience
	}
}

// listen is an application of the pod.
func listen(t *testing.T, serve func(net.Conn)) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func port(address string) int {
	var p int
	_, _ = fmt.Sscan(address[strings.LastIndex(address, ":")+1:], &p)
	return p
}
