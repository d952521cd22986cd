package proxy

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

// BenchmarkRequest is one GET with 1 KiB of answer, through routing, evidence, metrics and trace context, between a caller and an origin that allocate nothing.
func BenchmarkRequest(b *testing.B) { benchRequest(b, newBenchRig) }

// BenchmarkCapturedRequest is the same through the listener for captured traffic, where the authority decides.
func BenchmarkCapturedRequest(b *testing.B) { benchRequest(b, newCapturedBenchRig) }

func benchRequest(b *testing.B, start func(b *testing.B, origin string) (address string)) {
	request := []byte("GET /path HTTP/1.1\r\nHost: backend\r\nUser-Agent: bench\r\nx-request-id: users-1234567\r\nAccept: */*\r\n\r\n")
	body := strings.Repeat("x", 1<<10)
	reply := []byte("HTTP/1.1 200 OK\r\nDate: today\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + body)
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer origin.Close()
	go func() {
		for {
			c, err := origin.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := make([]byte, 4<<10)
				for {
					if _, err := c.Read(in); err != nil { // a request is one segment here
						return
					}
					if _, err := c.Write(reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	c, err := net.Dial("tcp", start(b, origin.Addr().String()))
	require.NoError(b, err)
	defer c.Close()
	in := make([]byte, len(reply))
	ask := func() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, in); err != nil {
			b.Fatal(err)
		}
	}
	for range 100 {
		ask()
	}
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}

// newBenchRig starts a server with one upstream, and returns the address of the listener.
func newBenchRig(b *testing.B, origin string) string {
	b.Helper()
	r := newRig(b, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {origin}})
	at := r.outbound(host, mesh.HTTP)
	r.routes(host, split(host, "v1"))
	r.apply()
	return at
}

// newCapturedBenchRig starts one whose traffic is captured.
func newCapturedBenchRig(b *testing.B, origin string) string {
	b.Helper()
	dst := netip.MustParseAddrPort("10.96.0.1:80")
	r := newRig(b, func(o *Options) { o.OriginalDst = func(net.Conn) (netip.AddrPort, error) { return dst, nil } })
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {origin}})
	r.snapshot.Services[host].Addresses = []string{dst.Addr().String()}
	r.routes(host, split(host, "v1"))
	at := testport.Loopback(b)
	r.inbound.Capture = &mesh.Capture{Outbound: at}
	r.apply()
	return at
}
