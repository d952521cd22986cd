package upstream

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

// ask asks an address once by a check.
func ask(t *testing.T, address string, h mesh.HealthCheck, over *mesh.ClientTLS) error {
	t.Helper()
	p := probing(t, address, h, over)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return p.ask(ctx)
}

func probing(t *testing.T, address string, h mesh.HealthCheck, over *mesh.ClientTLS) probe {
	t.Helper()
	h.Interval, h.Timeout, h.HealthyThreshold, h.UnhealthyThreshold = 1, 1, 1, 1
	c, err := newCheck(Destination{Name: "web.default:80", Host: "web.default", Policy: mesh.TrafficPolicy{HealthCheck: &h, TLS: over}})
	require.NoError(t, err)
	p := newProbe(c, address, &newPools(t, Options{}).opts)
	t.Cleanup(p.close)
	return p
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestHTTPProbe(t *testing.T) {
	t.Parallel()
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			w.WriteHeader(http.StatusOK)
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/who":
			if r.Method != http.MethodGet || r.Host != "web.default" || r.URL.RawQuery != "a=b" || r.Header.Get("X-Key") != "k" || r.UserAgent() != CheckAgent {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/host":
			if r.Host != "other" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("short"))
		}
	})
	for path, want := range map[string]string{"/ok": "", "/who?a=b": "", "/teapot": "status 418", "/moved": "status 302", "/cut": "unexpected EOF"} {
		err := ask(t, address, mesh.HealthCheck{HTTP: &mesh.HTTPCheck{Path: path, Headers: map[string]string{"x-key": "k"}}}, nil)
		if want == "" {
			require.NoError(t, err, path)
			continue
		}
		require.ErrorContains(t, err, want)
		require.Equal(t, strings.HasPrefix(want, "status"), isAnswer(err), path)
	}
	require.NoError(t, ask(t, address, mesh.HealthCheck{HTTP: &mesh.HTTPCheck{Path: "/teapot", Statuses: []mesh.StatusRange{{First: 200, Last: 299}, {First: 418, Last: 418}}}}, nil))
	require.NoError(t, ask(t, address, mesh.HealthCheck{HTTP: &mesh.HTTPCheck{Path: "/host", Host: "other"}}, nil))
	err := ask(t, testport.Refusing(t), mesh.HealthCheck{HTTP: &mesh.HTTPCheck{Path: "/ok"}}, nil)
	require.Error(t, err)
	require.False(t, isAnswer(err), "nobody was there to answer")
}

func isAnswer(err error) bool { return strings.HasPrefix(err.Error(), errAnswer.Error()) }

func TestProbesReuseTheirConnection(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	callers := map[string]bool{}
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		callers[r.RemoteAddr] = true
		_, _ = w.Write(make([]byte, 10_000))
	})
	p := probing(t, address, mesh.HealthCheck{HTTP: &mesh.HTTPCheck{Path: "/"}}, nil)
	const probes = 20
	for range probes {
		require.NoError(t, p.ask(t.Context()))
	}
	mu.Lock()
	defer mu.Unlock()
	require.Less(t, len(callers), probes/2, "net/http gives a connection up whose goroutines do not get to run within 50 ms")
}

func TestTCPProbe(t *testing.T) {
	t.Parallel()
	address, _ := listening(t)
	require.NoError(t, ask(t, address, mesh.HealthCheck{TCP: true}, nil))
	require.Error(t, ask(t, testport.Refusing(t), mesh.HealthCheck{TCP: true}, nil))
}

func TestProbesOverTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Host != "web.default" || r.TLS.ServerName != "example.com" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	s.StartTLS()
	t.Cleanup(s.Close)
	address := s.Listener.Addr().String()
	roots := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	known := &mesh.ClientTLS{Mode: mesh.SimpleTLS, SNI: "example.com", Roots: roots}
	for name, h := range map[string]mesh.HealthCheck{"http": {HTTP: &mesh.HTTPCheck{Path: "/"}}, "tcp": {TCP: true}} {
		require.NoError(t, ask(t, address, h, known), name)
		require.ErrorContains(t, ask(t, address, h, &mesh.ClientTLS{Mode: mesh.SimpleTLS, SNI: "example.com"}), "TLS handshake with "+address, name)
		require.ErrorContains(t, ask(t, address, h, &mesh.ClientTLS{Mode: mesh.SimpleTLS, Roots: roots}), "web.default", "%s: the certificate is not for the service's host", name)
	}
	plain, _ := listening(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, probing(t, plain, mesh.HealthCheck{TCP: true}, known).ask(ctx), context.DeadlineExceeded, "it takes the connection and says nothing")
}

func TestGRPCProbe(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(secure.Close)
	roots := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	for name, tc := range map[string]struct {
		options []grpc.ServerOption
		over    *mesh.ClientTLS
	}{
		"plaintext": {},
		"TLS": {
			[]grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: secure.TLS.Certificates}))},
			&mesh.ClientTLS{Mode: mesh.SimpleTLS, SNI: "example.com", Roots: roots},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := grpchealth.NewServer()
			address := serveGRPC(t, state, tc.options...)
			p := probing(t, address, mesh.HealthCheck{GRPC: &mesh.GRPCCheck{Service: "books"}}, tc.over)
			require.ErrorContains(t, p.ask(t.Context()), `grpc-status "5"`, "it knows no such service")
			for status, want := range map[healthpb.HealthCheckResponse_ServingStatus]string{
				healthpb.HealthCheckResponse_SERVING: "", healthpb.HealthCheckResponse_NOT_SERVING: "serving status 2", healthpb.HealthCheckResponse_UNKNOWN: "serving status 0",
			} {
				state.SetServingStatus("books", status)
				err := p.ask(t.Context())
				if want == "" {
					require.NoError(t, err)
					continue
				}
				require.ErrorContains(t, err, want)
				require.True(t, isAnswer(err))
			}
			require.NoError(t, ask(t, address, mesh.HealthCheck{GRPC: &mesh.GRPCCheck{}}, tc.over), "the server as a whole")
		})
	}
	err := ask(t, serveGRPC(t, nil), mesh.HealthCheck{GRPC: &mesh.GRPCCheck{}}, nil)
	require.ErrorContains(t, err, "no grpc.health.v1")
	require.Error(t, ask(t, serve(t, func(http.ResponseWriter, *http.Request) {}), mesh.HealthCheck{GRPC: &mesh.GRPCCheck{}}, nil), "it speaks HTTP/1.1")
	require.False(t, isAnswer(ask(t, testport.Refusing(t), mesh.HealthCheck{GRPC: &mesh.GRPCCheck{}}, nil)))
}

// serveGRPC is the address of a gRPC server; with a nil state it has no health service.
func serveGRPC(t *testing.T, state *grpchealth.Server, options ...grpc.ServerOption) string {
	t.Helper()
	s := grpc.NewServer(options...)
	if state != nil {
		healthpb.RegisterHealthServer(s, state)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

func FuzzServingStatus(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 4, 18, 0, 8, 2})
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := servingStatus(body); err == nil {
			require.GreaterOrEqual(t, len(body), 5)
		}
	})
}
