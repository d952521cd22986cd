package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket"
	"meshtest.dev/meshtest/proxy/socket/certtest"
)

// secureServer answers every read with "ok", over TLS.
type secureServer struct {
	address string

	mu     sync.Mutex
	states []tls.ConnectionState // of the handshakes that went well
	conns  []net.Conn
}

func serveTLS(t testing.TB, config *tls.Config) *secureServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &secureServer{address: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, config)
			all.Go(func() { s.carry(c) })
		}
	})
	t.Cleanup(func() { l.Close(); s.hangUp(); all.Wait() })
	return s
}

func (s *secureServer) carry(c *tls.Conn) {
	defer c.Close()
	if c.Handshake() != nil {
		return
	}
	s.mu.Lock()
	s.states = append(s.states, c.ConnectionState())
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	buf := make([]byte, 4<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write([]byte("ok")); err != nil {
			return
		}
	}
}

// hangUp closes all connections.
func (s *secureServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

// seen tells what was agreed on, connection by connection.
func (s *secureServer) seen() []tls.ConnectionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]tls.ConnectionState(nil), s.states...)
}

// say asks something over a connection, and waits for the answer.
func say(c *Conn) error {
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	b, _, err := c.ReadLent()
	if err == nil {
		socket.Return(b)
	}
	return err
}

// securely is a destination to which TLS is spoken.
func securely(c mesh.ClientTLS) Destination {
	if c.Mode == "" {
		c.Mode = mesh.SimpleTLS
	}
	return Destination{Policy: mesh.TrafficPolicy{TLS: &c}}
}

const backend = "backend.default.svc.cluster.local" // the host of connecting's destinations

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := certtest.NewAuthority(t), certtest.NewAuthority(t)
	const id = "spiffe://cluster.local/ns/default/sa/backend"
	named, expired := ca.Issue(t, backend, "*.example.com", "10.1.2.3", id), ca.IssueExpired(t, backend)
	own := ca.Issue(t, "spiffe://cluster.local/ns/default/sa/frontend")
	foreign := stranger.Issue(t, "frontend")
	with := func(c certtest.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c.Certificate}}
	}
	mutual := func(version uint16) *tls.Config {
		c := with(named)
		c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, ca.Pool, version
		return c
	}
	for name, test := range map[string]struct {
		server  *tls.Config
		policy  mesh.ClientTLS
		refused bool   // for the certificate
		asked   string // server name, of what was not refused
	}{
		"the service's name":     {with(named), mesh.ClientTLS{Roots: ca.PEM}, false, backend},
		"the policy's name":      {with(named), mesh.ClientTLS{Roots: ca.PEM, SNI: "a.example.com"}, false, "a.example.com"},
		"a name of a list":       {with(named), mesh.ClientTLS{Roots: ca.PEM, SNI: "x", Names: []string{"y", "b.example.com"}}, false, "x"},
		"an identity":            {with(named), mesh.ClientTLS{Roots: ca.PEM, Names: []string{id}}, false, backend},
		"an address":             {with(named), mesh.ClientTLS{Roots: ca.PEM, Names: []string{"10.1.2.3"}}, false, backend},
		"another name":           {with(named), mesh.ClientTLS{Roots: ca.PEM, SNI: "example.com"}, true, ""},
		"none of a list":         {with(named), mesh.ClientTLS{Roots: ca.PEM, Names: []string{"x", "a.b.example.com", "spiffe://cluster.local/ns/default/sa/x"}}, true, ""},
		"an expired one":         {with(expired), mesh.ClientTLS{Roots: ca.PEM}, true, ""},
		"an expired one by list": {with(expired), mesh.ClientTLS{Roots: ca.PEM, Names: []string{backend}}, true, ""},
		"another root":           {with(named), mesh.ClientTLS{Roots: stranger.PEM}, true, ""},
		"another root by list":   {with(named), mesh.ClientTLS{Roots: stranger.PEM, Names: []string{backend}}, true, ""},
		"the system's roots":     {with(named), mesh.ClientTLS{}, true, ""},
		"whatever comes":         {with(expired), mesh.ClientTLS{Insecure: true, SNI: "x"}, false, "x"},
		"ours, 1.2":              {mutual(tls.VersionTLS12), mesh.ClientTLS{Mode: mesh.MutualTLS, Roots: ca.PEM, Chain: own.Chain, PrivateKey: own.Key}, false, backend},
		"ours, 1.3":              {mutual(0), mesh.ClientTLS{Mode: mesh.MutualTLS, Roots: ca.PEM, Chain: own.Chain, PrivateKey: own.Key}, false, backend},
		"none of ours, 1.3":      {mutual(0), mesh.ClientTLS{Roots: ca.PEM}, true, ""},
		"a foreign one, 1.3":     {mutual(0), mesh.ClientTLS{Mode: mesh.MutualTLS, Roots: ca.PEM, Chain: foreign.Chain, PrivateKey: foreign.Key}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveTLS(t, test.server)
			g := connecting(t, newPools(t, Options{}), securely(test.policy), s.address)
			c, err := g.Connect(t.Context(), g.Endpoints[0], Want{})
			if err == nil {
				defer c.Discard()
				err = say(c) // where the server's opinion of our certificate is heard, in TLS 1.3
			}
			if test.refused {
				require.Error(t, err)
				require.True(t, CertificateRefused(err), "%v", err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.asked, s.seen()[0].ServerName)
			require.True(t, c.TLS().HandshakeComplete)
		})
	}
}

func TestTLSThatCannotBe(t *testing.T) {
	t.Parallel()
	ca := certtest.NewAuthority(t)
	own := ca.Issue(t, "x")
	for want, policy := range map[string]mesh.ClientTLS{
		"no such mode":         {Mode: mesh.Passthrough},
		"among the roots":      {Mode: mesh.SimpleTLS, Roots: "x"},
		"our certificate":      {Mode: mesh.MutualTLS},
		"private key does not": {Mode: mesh.MutualTLS, Chain: own.Chain, PrivateKey: ca.Issue(t, "x").Key},
	} {
		_, err := newPools(t, Options{}).NewGroup(Destination{Name: "a:443", Policy: mesh.TrafficPolicy{TLS: &policy}})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "a:443")
	}
}

func TestHandshakesThatFail(t *testing.T) {
	t.Parallel()
	silent, _ := listening(t)
	g := connecting(t, newPools(t, Options{}), Destination{Policy: mesh.TrafficPolicy{ConnectTimeout: 2 * time.Second, TLS: &mesh.ClientTLS{Mode: mesh.SimpleTLS}}}, silent)
	_, err := g.Connect(t.Context(), g.Endpoints[0], Want{})
	var failed *HandshakeError
	require.ErrorAs(t, err, &failed)
	require.True(t, IsTimeout(err))
	require.False(t, failed.Refused)
	require.Zero(t, g.Endpoints[0].Pool.stats().Connections)
	require.EqualValues(t, 1, g.Endpoints[0].Pool.stats().ConnectFailures)

	g = connecting(t, newPools(t, Options{}), securely(mesh.ClientTLS{}), silent)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = g.Connect(ctx, g.Endpoints[0], Want{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, strings.Contains(err.Error(), "handshake"), "the request ended, and not the handshake")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = c.Read(make([]byte, 4<<10))
			c.Close()
		}
	}()
	g = connecting(t, newPools(t, Options{}), securely(mesh.ClientTLS{}), l.Addr().String())
	_, err = g.Connect(t.Context(), g.Endpoints[0], Want{})
	require.ErrorAs(t, err, &failed)
	require.False(t, failed.Refused || IsTimeout(err))

	ca := certtest.NewAuthority(t)
	asks := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, backend).Certificate}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12})
	g = connecting(t, newPools(t, Options{}), securely(mesh.ClientTLS{Roots: ca.PEM}), asks.address)
	_, err = g.Connect(t.Context(), g.Endpoints[0], Want{})
	require.ErrorAs(t, err, &failed, "it says only that the handshake failed")

	old := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, backend).Certificate}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	g = connecting(t, newPools(t, Options{}), securely(mesh.ClientTLS{Roots: ca.PEM}), old.address)
	_, err = g.Connect(t.Context(), g.Endpoints[0], Want{})
	require.ErrorAs(t, err, &failed)
	require.False(t, failed.Refused)
}

func TestTLSSessionsAreResumed(t *testing.T) {
	t.Parallel()
	ca := certtest.NewAuthority(t)
	for name, policy := range map[string]mesh.ClientTLS{
		"1.3":         {Roots: ca.PEM},
		"1.3 by list": {Roots: ca.PEM, Names: []string{backend}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, backend).Certificate}})
			g := connecting(t, newPools(t, Options{}), securely(policy), s.address)
			for range 2 {
				c := fresh(t, g)
				require.NoError(t, say(c))
				c.Discard()
			}
			seen := s.seen()
			require.False(t, seen[0].DidResume)
			require.True(t, seen[1].DidResume)
		})
	}
}

// TestTLSConnectionsAreKept: neither the tickets of TLS 1.3 nor anything else of TLS makes a kept connection look closed, and its end does.
func TestTLSConnectionsAreKept(t *testing.T) {
	t.Parallel()
	ca := certtest.NewAuthority(t)
	s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, backend).Certificate}})
	g := connecting(t, newPools(t, Options{}), securely(mesh.ClientTLS{Roots: ca.PEM}), s.address)
	c := connect(t, g)
	c.unused()
	require.False(t, c.Held())
	require.Same(t, c, take(t, g, Want{}))
	for range 3 {
		require.NoError(t, say(c))
		c.Put()
		require.Same(t, c, take(t, g, Want{}))
	}
	require.NoError(t, say(c))
	s.hangUp()
	require.Eventually(t, func() bool { return c.Look() == socket.Gone }, 30*time.Second, time.Millisecond)
	c.Put()
	require.Nil(t, take(t, g, Want{}))
	require.Equal(t, Stats{Address: s.address, Destination: backend + ":80", TLS: true, Protocol: "http/1.1", Connects: 1}, g.Endpoints[0].Pool.stats())
}

// TestTLSByAuthority: where the policy leaves the server name to the request, connections are kept apart by it.
func TestTLSByAuthority(t *testing.T) {
	t.Parallel()
	ca := certtest.NewAuthority(t)
	s := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, backend, "a.example.com", "b.example.com").Certificate}})
	g := connecting(t, newPools(t, Options{}), securely(mesh.ClientTLS{Roots: ca.PEM}), s.address)
	by := func(authority string) *Conn {
		c, err := g.Connect(t.Context(), g.Endpoints[0], Want{Authority: []byte(authority)})
		require.NoError(t, err)
		require.NoError(t, say(c))
		return c
	}
	a := by("A.example.com:443")
	a.Put()
	b := by("b.example.com")
	require.NotSame(t, a, b)
	b.Put()
	require.Same(t, a, by("a.EXAMPLE.com"))
	plain := by("")
	plain.Put()
	require.Same(t, plain, by("127.0.0.1:8080"), "an address is no name")
	_, err := g.Connect(t.Context(), g.Endpoints[0], Want{Authority: []byte("c.example.com")})
	require.True(t, CertificateRefused(err))
	var names []string
	for _, state := range s.seen() {
		names = append(names, state.ServerName)
	}
	require.Equal(t, []string{"a.example.com", "b.example.com", backend}, names)
	a.Discard()
	plain.Discard()

	fixed := connecting(t, newPools(t, Options{}), securely(mesh.ClientTLS{Roots: ca.PEM, SNI: "a.example.com"}), s.address)
	first, err := fixed.Connect(t.Context(), fixed.Endpoints[0], Want{Authority: []byte("x")})
	require.NoError(t, err)
	first.Put()
	require.Same(t, first, take(t, fixed, Want{Authority: []byte("y")}))
	first.Put()
}

func TestHostOf(t *testing.T) {
	t.Parallel()
	for authority, want := range map[string]string{
		"": "", ":80": "", "a": "a", "a.b:80": "a.b", "10.0.0.1": "", "10.0.0.1:80": "", "[::1]": "", "[fe80::1]:80": "", "1a:2": "1a", "10.0.0.1.nip.io": "10.0.0.1.nip.io",
	} {
		require.Equal(t, want, string(hostOf([]byte(authority))), authority)
	}
}

func TestALPN(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		protocol mesh.Protocol
		upgrade  bool
		alpn     []string
		offers   []string
		speech   speech
	}{
		"http":                {mesh.HTTP, false, nil, []string{"http/1.1"}, http1Only},
		"http, upgraded":      {mesh.HTTP, true, nil, []string{"h2"}, undecided},
		"grpc":                {mesh.GRPC, false, nil, []string{"h2"}, undecided},
		"tcp":                 {mesh.TCP, true, nil, nil, http1Only},
		"both":                {mesh.HTTP, false, []string{"h2", "http/1.1"}, []string{"h2", "http/1.1"}, undecided},
		"bytes that say they": {mesh.TCP, false, []string{"h2"}, []string{"h2"}, http1Only},
	} {
		transport, err := newTransport(Destination{Protocol: test.protocol, Policy: mesh.TrafficPolicy{
			Pool: mesh.ConnectionPool{H2Upgrade: test.upgrade}, TLS: &mesh.ClientTLS{Mode: mesh.SimpleTLS, ALPN: test.alpn},
		}})
		require.NoError(t, err)
		require.Equal(t, test.offers, transport.security.config("x", nil, false).NextProtos, name)
		require.Equal(t, test.alpn, transport.security.config("x", nil, true).NextProtos, name)
		require.Equal(t, test.speech, transport.speech, name)
	}
	plain, err := newTransport(Destination{Protocol: mesh.HTTP2})
	require.NoError(t, err)
	require.Equal(t, http2Only, plain.speech)
}

func TestRefusalsAreKnown(t *testing.T) {
	t.Parallel()
	require.True(t, CertificateRefused(&HandshakeError{Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}))
	require.True(t, CertificateRefused(&net.OpError{Op: "remote error", Err: tls.AlertError(116)}))
	require.False(t, CertificateRefused(&net.OpError{Op: "remote error", Err: tls.AlertError(40)}))
	require.False(t, CertificateRefused(&net.OpError{Op: "read", Err: tls.AlertError(42)}))
	require.False(t, CertificateRefused(nil))
}

func BenchmarkTLSExchange(b *testing.B) {
	ca := certtest.NewAuthority(b)
	s := serveTLS(b, &tls.Config{Certificates: []tls.Certificate{ca.Issue(b, backend).Certificate}})
	ps := NewPools(Options{})
	b.Cleanup(ps.Close)
	g := connecting(b, ps, securely(mesh.ClientTLS{Roots: ca.PEM}), s.address)
	connect(b, g).unused()
	authority := []byte("127.0.0.1:80")
	b.ReportAllocs() // the server's too
	for b.Loop() {
		c, err := g.Take(g.Endpoints[0], Want{Authority: authority})
		if err != nil {
			b.Fatal(err)
		}
		if err := say(c); err != nil {
			b.Fatal(err)
		}
		c.Put()
	}
}
