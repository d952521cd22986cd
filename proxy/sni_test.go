package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket/certtest"
)

// speakingTLS is the address of an origin that says its name to whoever greets it by TLS.
func speakingTLS(t *testing.T, name string) (address string) {
	t.Helper()
	pair := certtest.NewAuthority(t).Issue(t, name).Certificate
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			fmt.Fprint(c, name)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// greet asks a listener for a server name, and returns what is said there.
func greet(t *testing.T, at, name string) string {
	t.Helper()
	c, err := tls.Dial("tcp", at, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return ""
	}
	defer c.Close()
	said, _ := io.ReadAll(c)
	return string(said)
}

// TLS that is not ended here goes where its server name says, byte for byte.
func TestTLSGoesByItsServerName(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	one := r.service("one", mesh.TLS, map[string][]string{"v1": {speakingTLS(t, "one")}})
	rest := r.service("rest", mesh.TLS, map[string][]string{"v1": {speakingTLS(t, "rest")}})
	at := r.outbound(one, mesh.TLS)
	to := func(host string, names ...string) mesh.Route {
		route := mesh.Route{Name: host, Split: []mesh.Destination{{Host: host, Port: 80, Weight: 1}}}
		if names != nil {
			route.Matches = []mesh.Match{{SNI: names}}
		}
		return route
	}
	r.routes(one, to(one, "one.example"), to(rest, "*.rest.example"))
	r.apply()
	require.Equal(t, "one", greet(t, at, "one.example"))
	require.Equal(t, "rest", greet(t, at, "a.rest.example"))
	require.Empty(t, greet(t, at, "other.example"))
	r.routes(one, to(one, "one.example"), to(rest))
	r.apply()
	require.Equal(t, "rest", greet(t, at, "other.example"))
}

func FuzzServerName(f *testing.F) {
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, hello []byte) {
		name, err := serverName(hello)
		if err != nil {
			require.Equal(t, io.ErrUnexpectedEOF, err)
			require.Empty(t, name)
		}
	})
}
