package proxy

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCarriesRequests(t *testing.T) {
	t.Parallel()
	_, o, at := simple(t, answering(200, "hello"), nil)
	c := call(t, at)
	for range 3 {
		resp, body := c.get("/a?b=c", "x-request-id: s-1")
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "hello", body)
	}
	require.Contains(t, o.bytes(), "GET /a?b=c HTTP/1.1\r\nHost: backend\r\nx-request-id: s-1\r\n")
	require.Equal(t, 1, o.connections())
}
