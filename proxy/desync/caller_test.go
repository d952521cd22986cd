package desync

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// caller is a raw client of HTTP/1.1.
type caller struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func call(t *testing.T, address string) *caller {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { c.Close() })
	return &caller{Conn: c, t: t, r: bufio.NewReader(c)}
}

// say sends what can be sent: a proxy that has heard enough may close before the end.
func (c *caller) say(s string) { _, _ = io.WriteString(c, s) }

// spell sends each byte by itself.
func (c *caller) spell(s string) {
	for i := range len(s) {
		c.say(s[i : i+1])
	}
}

// reply reads the final answer to a request of the method. The error is that of the body.
func (c *caller) reply(method string) (*http.Response, string, error) {
	c.t.Helper()
	for {
		resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
		require.NoError(c.t, err)
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode >= 200 {
			return resp, string(body), err
		}
	}
}

// whole is reply for an answer that must be whole.
func (c *caller) whole(method string) (*http.Response, string) {
	c.t.Helper()
	resp, body, err := c.reply(method)
	require.NoError(c.t, err)
	return resp, body
}

// ends requires that nothing more comes but the end. A reset is one, when we have sent what nobody wanted.
func (c *caller) ends() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	require.Empty(c.t, string(rest))
	if failed, is := err.(net.Error); is {
		require.False(c.t, failed.Timeout(), "the connection stays open")
	}
}

// probe sends a request with a token, which must come back.
func (c *caller) probe(p *probes) {
	c.t.Helper()
	m := p.next()
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: a\r\nX-Token: %s\r\n", m.method, m.target, m.token)
	if m.body != "" {
		text += fmt.Sprintf("Content-Length: %d\r\n", len(m.body))
	}
	c.say(text + "\r\n" + m.body)
	resp, body := c.whole(m.method)
	require.Equal(c.t, 200, resp.StatusCode)
	require.Equal(c.t, m.saw(), resp.Header.Get("X-Saw"))
	require.Equal(c.t, m.saw(), body)
}

// probes are the probes behind a vector.
type probes struct{ sent []message }

// next gives another probe: every second one has a body.
func (p *probes) next() message {
	n := len(p.sent) + 1
	m := message{method: "GET", target: "/probe", token: fmt.Sprintf("probe-%d", n)}
	if n%2 == 0 {
		m.method, m.body = "POST", "of "+m.token
	}
	p.sent = append(p.sent, m)
	return m
}
