package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/mesh"
)

// A request that comes on a kept connection after its listener has gone, or speaks another protocol now, is the connection's last, and goes where it would have gone before.
func TestKeptConnectionsOfListenersThatWent(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(r *rig, host string){
		"the listener went": func(r *rig, _ string) { r.inbound.Outbound = nil },
		"the service, too": func(r *rig, host string) {
			r.inbound.Outbound = nil
			delete(r.snapshot.Services, host)
			delete(r.snapshot.Endpoints, mesh.HostPort(host, 80))
			delete(r.snapshot.Routes, mesh.HostPort(host, 80))
		},
		"it speaks TCP now": func(r *rig, host string) {
			r.snapshot.Services[host].Ports = []mesh.Port{{Number: 80, Protocol: mesh.TCP}}
			r.inbound.Outbound[0].Protocol = mesh.TCP
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, answering(200, "ok"))
			r := newRig(t, nil)
			host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
			r.routes(host, split(host, "v1"))
			at := r.outbound(host, mesh.HTTP)
			r.replace()
			c := call(t, at)
			c.get("/")
			change(r, host)
			r.replace()
			resp, body := c.get("/")
			require.Equal(t, 200, resp.StatusCode)
			require.Equal(t, "ok", body)
			require.True(t, resp.Close)
			require.Empty(t, c.ends())
		})
	}
}

// replace replaces the whole configuration by what the rig holds.
func (r *rig) replace() {
	r.t.Helper()
	in := *r.inbound
	in.Outbound = append([]mesh.OutboundPort(nil), in.Outbound...)
	r.snapshot.Inbound[instance] = &in
	all := r.snapshot.Clone()
	for host, svc := range all.Services {
		one := *svc
		all.Services[host] = &one
	}
	r.counter++
	require.NoError(r.t, r.srv.Replace(all, mesh.Generation{Epoch: 1, Counter: r.counter}))
}

// framer is a caller of HTTP/2 who sees every frame.
type framer struct {
	*http2.Framer
	t *testing.T
}

func callFramer(t *testing.T, address string) *framer {
	t.Helper()
	c := call(t, address)
	c.say(http2.ClientPreface)
	f := &framer{http2.NewFramer(c, c.r), t}
	require.NoError(t, f.WriteSettings())
	return f
}

func (f *framer) get(id uint32) {
	f.t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "backend"}, {Name: ":path", Value: "/"}} {
		require.NoError(f.t, e.WriteField(h))
	}
	require.NoError(f.t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}))
}

// until reads frames up to the one that is wanted.
func (f *framer) until(wanted func(http2.Frame) bool) http2.Frame {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		require.NoError(f.t, err)
		if s, is := frame.(*http2.SettingsFrame); is && !s.IsAck() {
			require.NoError(f.t, f.WriteSettingsAck())
		}
		if wanted(frame) {
			return frame
		}
	}
}

// A caller of HTTP/2 is told that nothing was processed, so that he may ask elsewhere.
func TestStreamsToListenersThatWentAreRefused(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, "ok"), nil)
	f := callFramer(t, at)
	f.get(1)
	f.until(func(frame http2.Frame) bool {
		return frame.Header().StreamID == 1 && frame.Header().Flags.Has(http2.FlagDataEndStream)
	})
	svc := *r.snapshot.Services[mesh.FQDN("backend", mesh.DefaultNamespace)]
	svc.Ports = []mesh.Port{{Number: 80, Protocol: mesh.TCP}}
	r.snapshot.Services[svc.Host] = &svc
	r.inbound.Outbound[0].Protocol = mesh.TCP
	r.apply()
	f.get(3)
	end := f.until(func(frame http2.Frame) bool { return frame.Header().StreamID == 3 })
	require.Equal(t, http2.ErrCodeRefusedStream, end.(*http2.RSTStreamFrame).ErrCode)
}

// watching is an upstream of both protocols that begins an answer, and tells when it hears that nobody wants the rest.
func watching(t *testing.T) (address string, heard chan struct{}) {
	t.Helper()
	heard = make(chan struct{}, 1)
	up := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		heard <- struct{}{}
	})}
	up.Protocols.SetHTTP1(true)
	up.Protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = up.Serve(l) }()
	t.Cleanup(func() { up.Close(); <-done })
	return l.Addr().String(), heard
}

// Who leaves in the middle of an answer that says nothing at the moment is missed, so that the upstream can stop working.
func TestCallersWhoLeaveAreMissed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		protocol mesh.Protocol
		client   func(t testing.TB) *http.Client
		body     string
	}{
		"HTTP/1.1":               {mesh.HTTP, func(testing.TB) *http.Client { return &http.Client{Transport: &http.Transport{}} }, ""},
		"HTTP/1.1 with a body":   {mesh.HTTP, func(testing.TB) *http.Client { return &http.Client{Transport: &http.Transport{}} }, strings.Repeat("x", 1<<20)},
		"HTTP/2":                 {mesh.HTTP2, priorKnowledge, ""},
		"HTTP/2 with a body":     {mesh.HTTP2, priorKnowledge, strings.Repeat("x", 1<<20)},
		"HTTP/2 to one of 1.1":   {mesh.HTTP, priorKnowledge, ""},
		"HTTP/1.1 to one of two": {mesh.HTTP2, func(testing.TB) *http.Client { return &http.Client{Transport: &http.Transport{}} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream, heard := watching(t)
			r := newRig(t, nil)
			at := r.outbound(r.service("backend", test.protocol, map[string][]string{"v1": {upstream}}), test.protocol)
			r.apply()
			client := test.client(t)
			defer client.CloseIdleConnections()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+at+"/", strings.NewReader(test.body))
			require.NoError(t, err)
			resp, err := client.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			_, err = io.ReadFull(resp.Body, make([]byte, 5))
			require.NoError(t, err)
			leave()
			select {
			case <-heard:
			case <-time.After(patience):
				t.Error("the upstream is still at work")
			}
			r.tells(`response_flags="DC"`)
		})
	}
}

// An endpoint that hangs is ejected although it is only the route that has a timeout.
func TestEndpointsThatHangAreEjected(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	good, bad := newOrigin(t, answering(200, "ok")), newOrigin(t, func(k *talk) { k.request(); <-hold })
	t.Cleanup(func() { close(hold) })
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {good.address, bad.address}})
	r.snapshot.Services[host].Traffic = mesh.TrafficPolicy{
		Balancer: mesh.RoundRobin, Outlier: &mesh.OutlierDetection{Consecutive5xx: 3, Interval: time.Second, BaseEjection: time.Minute, MaxEjectionPercent: 100},
	}
	all := split(host, "v1")
	all.Timeout = ample
	r.routes(host, all)
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	statuses := map[int]int{}
	c := call(t, at)
	for range 20 {
		resp, _ := c.get("/")
		statuses[resp.StatusCode]++
	}
	require.Equal(t, map[int]int{200: 17, 504: 3}, statuses)
}

// The limit of connections is one of connections: streams have their own.
func TestStreamsAreNoConnections(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	r, o, at := simple(t, func(k *talk) {
		if r, _ := k.request(); r != nil && r.URL.Path == "/" {
			<-hold
		}
		k.say(answer(200, "ok", "Connection: close"))
	}, func(o *Options) { o.MaxConnections = 2 })
	t.Cleanup(func() { close(hold) })
	f := callFramer(t, at)
	for i := range 5 {
		f.get(uint32(1 + 2*i))
	}
	require.Eventually(t, func() bool { return strings.Count(o.bytes(), "GET / ") == 5 }, patience, time.Millisecond)
	require.Equal(t, 1, r.srv.connections())
	resp, _ := call(t, at).get("/free")
	require.Equal(t, 200, resp.StatusCode)
}

// What moves in a tunnel is told as it moves, also behind a burst: a tunnel in which something moves is not idle.
func TestTunnelsTellWhatMoves(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	o := newOrigin(t, func(k *talk) { _, _ = io.Copy(io.Discard, k.r) })
	at := r.outbound(r.service("db", mesh.TCP, map[string][]string{"v1": {o.address}}), mesh.TCP)
	r.apply()
	c := call(t, at)
	c.say(strings.Repeat("x", 1<<19))
	received := func(n string) bool {
		for line := range strings.Lines(r.metrics()) {
			if strings.HasPrefix(line, "istio_tcp_received_bytes_total{") && strings.HasSuffix(line, "} "+n+"\n") {
				return true
			}
		}
		return false
	}
	require.Eventually(t, func() bool { return received("524288") }, patience, time.Millisecond)
	c.say("ping")
	require.Eventually(t, func() bool { return received("524292") }, patience, time.Millisecond)
}
