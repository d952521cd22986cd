package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket/certtest"
)

// priorKnowledge is a client that speaks HTTP/2 without asking.
func priorKnowledge(t testing.TB) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func get(t testing.TB, client *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	return resp, string(body)
}

// A caller may speak HTTP/2 to any listener for HTTP; the upstream sees HTTP/1.1.
func TestHTTP2ByPriorKnowledge(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, echoing, nil)
	client := priorKnowledge(t)
	get(t, client, "http://"+at+"/") // until it is connected, the client would connect more than once
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			body := strings.Repeat(fmt.Sprintf("%d,", i), 1+i*500)
			resp, err := client.Post("http://"+at+"/a?b=c", "text/plain", strings.NewReader(body))
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, 2, resp.ProtoMajor)
			require.Equal(t, body, string(got))
		})
	}
	all.Wait()
	require.Contains(t, o.bytes(), "POST /a?b=c HTTP/1.1\r\n")
	cells, _, _ := r.evidenceOf(51)
	require.Equal(t, "backend", cells[0].Edge.To)
	r.tells(`meshtest_sidecar_connections_total{listener="outbound"} 1`)
}

// What the mesh itself answers arrives too, with its reason.
func TestHTTP2IsToldWhy(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, "hello"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	r.routes(host, mesh.Route{Name: "r", Direct: &mesh.DirectResponse{Status: 418, Body: []byte("short and stout")}})
	r.apply()
	resp, body := get(t, priorKnowledge(t), "http://"+at)
	require.Equal(t, 418, resp.StatusCode)
	require.Equal(t, "short and stout", body)
	require.Equal(t, ReasonDirectResponse, resp.Header.Get(mesh.HeaderReason))
}

// A stopping server finishes what is in flight, and tells a caller of HTTP/2 to go elsewhere.
func TestHTTP2Drains(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r, o, at := simple(t, func(k *talk) {
		for {
			if req, _ := k.request(); req == nil {
				return
			}
			<-release
			k.say(answer(200, "late"))
		}
	}, nil)
	client := priorKnowledge(t)
	got := make(chan string, 1)
	go func() {
		_, body := get(t, client, "http://"+at)
		got <- body
	}()
	require.Eventually(t, func() bool { return strings.Contains(o.bytes(), "\r\n\r\n") }, patience, time.Millisecond)
	r.stop()
	require.Eventually(t, func() bool { return r.srv.draining.Load() }, patience, time.Millisecond)
	close(release)
	require.Equal(t, "late", <-got)
	<-r.done
}

// A gateway's listener ends TLS, shows the certificate of the host that is asked for, and speaks what the caller prefers; another one sends everybody there.
func TestGatewaySpeaksTLS(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, "hello"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	authority := certtest.NewAuthority(t)
	one, all := authority.Issue(t, "one.example"), authority.Issue(t, "*.example")
	svc := *r.snapshot.Services[host]
	svc.Ports = []mesh.Port{{Number: 80, Protocol: mesh.HTTP, TLS: &mesh.ServerTLS{Mode: mesh.SimpleTLS, Certificates: []mesh.Certificate{
		{Hosts: []string{"one.example"}, Chain: one.Chain, PrivateKey: one.Key}, {Hosts: []string{"*.example"}, Chain: all.Chain, PrivateKey: all.Key},
	}}}}
	r.snapshot.Services[host] = &svc
	r.apply()
	for name, chain := range map[string]string{"one.example": one.Chain, "two.example": all.Chain} {
		for _, version := range []int{1, 2} {
			roots := x509.NewCertPool()
			require.True(t, roots.AppendCertsFromPEM([]byte(chain)))
			tr := &http.Transport{
				ForceAttemptHTTP2: version == 2, TLSClientConfig: &tls.Config{RootCAs: roots},
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, network, at)
				},
			}
			resp, body := get(t, &http.Client{Transport: tr}, "https://"+name+"/")
			require.Equal(t, version, resp.ProtoMajor)
			require.Equal(t, "hello", body)
			tr.CloseIdleConnections()
		}
	}
	require.Contains(t, o.bytes(), "x-forwarded-proto: https\r\n")
	plain, err := net.Dial("tcp", at)
	require.NoError(t, err)
	defer plain.Close()
	fmt.Fprint(plain, "GET / HTTP/1.1\r\nHost: one.example\r\n\r\n")
	answer, _ := io.ReadAll(plain)
	require.NotContains(t, string(answer), "hello")
	r.tells(`refused_total{reason="tls_handshake"} 1`)

	again := *r.snapshot.Services[host]
	again.Ports = []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}
	r.snapshot.Services[host] = &again
	r.routes(host, mesh.Route{Name: "https-redirect", Redirect: &mesh.Redirect{Scheme: "https", Code: 301}})
	r.apply()
	resp, _ := call(t, at).get("/a?b=c")
	require.Equal(t, 301, resp.StatusCode)
	require.Contains(t, resp.Header.Get("location"), "https://")
}

// An upstream that speaks HTTP/2 is spoken to so, whatever the caller speaks; trailers arrive at those who can have them.
func TestUpstreamsOfHTTP2(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "grpc-status")
		fmt.Fprintf(w, "%s %s %s", r.Proto, r.URL.Path, body)
		w.Header().Set("grpc-status", "0")
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-served })

	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP2, map[string][]string{"v1": {l.Addr().String()}})
	at := r.outbound(host, mesh.HTTP2)
	r.apply()
	c := call(t, at)
	for range 3 {
		c.say("POST /one HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nthree")
		_, body := c.reply("POST")
		require.Equal(t, "HTTP/2.0 /one three", body)
	}
	two := priorKnowledge(t)
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			body := strings.Repeat("x", i*1000)
			resp, err := two.Post("http://"+at+"/two", "text/plain", strings.NewReader(body))
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, "HTTP/2.0 /two "+body, string(got))
			require.Equal(t, "0", resp.Trailer.Get("grpc-status"))
		})
	}
	all.Wait()
}
