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
	_, o, at := simple(t, func(k *talk) {
		for {
			req, body := k.request()
			if req == nil {
				return
			}
			<-release
			k.say(answer(200, req.URL.Path+body))
		}
	}, nil)
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

// Who closes his side right behind a request gets his answer, and then the connection ends, long before it is idle for too long.
func TestCallersWhoCloseTheirSide(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, "hello"), func(o *Options) { o.Timeouts.Idle = time.Hour })
	for range 20 {
		c := call(t, at)
		c.say("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
		_, body := c.reply("GET")
		require.Equal(t, "hello", body)
		require.Empty(t, c.ends())
	}
	require.Eventually(t, func() bool { r.srv.mu.Lock(); defer r.srv.mu.Unlock(); return len(r.srv.conns) == 0 }, patience, time.Millisecond)
}
