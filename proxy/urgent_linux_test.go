package proxy

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A read stops at an urgent byte, and nobody tells of what lies behind it.
func TestRequestsBehindAnUrgentByte(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	_, o, at := simple(t, holding(release), func(o *Options) { o.Timeouts.Idle = time.Hour })
	c := call(t, at)
	c.say("GET /0 HTTP/1.1\r\nHost: b\r\n\r\n")
	require.Eventually(t, func() bool { return len(o.bytes()) > 0 }, patience, time.Millisecond)
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = syscall.Sendto(int(fd), []byte("GET /1 HTTP/1.1\r\nHost: b\r\n\r\n!"), syscall.MSG_OOB, nil)
	}))
	require.NoError(t, err)
	c.say("GET /2 HTTP/1.1\r\nHost: b\r\n\r\n")
	close(release)
	for _, want := range []string{"/0", "/1", "/2"} {
		_, body := c.reply("GET")
		require.Equal(t, want, body)
	}
}
