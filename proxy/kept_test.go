package proxy

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is said on a kept connection while its last request is carried comes without another word.
func TestRequestsThatComeMeanwhile(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	_, o, at := simple(t, holding(release), nil)
	c := call(t, at)
	c.say("GET /0 HTTP/1.1\r\nHost: b\r\n\r\n")
	for _, next := range []struct{ says, answered string }{
		{"GET /1 HTTP/1.1\r\nHost: b\r\n\r\n", "/0"}, // a whole one
		{"GET /2 HTTP", "/1"},                        // the beginning of one
		{"/1.1\r\nHost: b\r\n\r\nPOST /3 HTTP/1.1\r\nHost: b\r\nContent-Length: 6\r\n\r\nabc", ""}, // one, and one whose body is not all there
		{"defPOST /4 HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nghi", "/2"},
	} {
		if next.answered != "" {
			require.Eventually(t, func() bool { return strings.Contains(o.bytes(), " "+next.answered+" ") }, patience, time.Millisecond)
		}
		c.say(next.says)
		if next.answered != "" {
			release <- struct{}{}
			_, body := c.reply("GET")
			require.Equal(t, next.answered, body)
		}
	}
	for _, want := range []string{"/3abcdef", "/4ghi"} {
		release <- struct{}{}
		_, body := c.reply("POST")
		require.Equal(t, want, body)
	}
}

// The end of a caller's side that comes together with a request, while another is carried, is seen long before the connection has been idle for too long. A machine that is slow enough sees it before the
// answer, and gives that up.
func TestAnEndThatComesMeanwhile(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	_, o, at := simple(t, holding(release), func(o *Options) { o.Timeouts.Idle = time.Hour })
	c := call(t, at)
	c.say("GET /0 HTTP/1.1\r\nHost: b\r\n\r\n")
	require.Eventually(t, func() bool { return strings.Contains(o.bytes(), " /0 ") }, patience, time.Millisecond)
	c.say("GET /1 HTTP/1.1\r\nHost: b\r\n\r\n")
	require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	close(release)
	if rest := c.ends(); rest != "" {
		require.Contains(t, rest, "/0")
	}
}
