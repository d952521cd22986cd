package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http1/vectors"
	"meshtest.dev/meshtest/proxy/socket"
)

// TestRefusedRequestsNeverReachTheOrigin replays what the codec must refuse against a running server.
func TestRefusedRequestsNeverReachTheOrigin(t *testing.T) {
	t.Parallel()
	var whole atomic.Int64
	_, o, at := simple(t, func(k *talk) {
		for req, _ := k.request(); req != nil; req, _ = k.request() {
			whole.Add(1)
			k.say(answer(200, ""))
		}
	}, nil)
	type vector struct {
		name, in, reason string
		status           int
	}
	var all []vector
	for _, v := range vectors.Requests() {
		if v.Status != 0 && v.Reason != http1.ErrHTTP2Preface.Reason { // which is spoken here
			all = append(all, vector{v.Name, v.In, v.Reason, v.Status})
		}
	}
	for _, v := range vectors.ChunkedBodies() {
		if v.Reason != "" && v.Reason != http1.ErrTruncated.Reason {
			all = append(all, vector{v.Name, v.AsRequest("a"), v.Reason, statusOf(v.Reason)})
		}
	}
	require.Greater(t, len(all), 150)
	refuses := func(v vector) {
		t.Helper()
		c := call(t, at)
		c.say(v.in)
		resp, err := http.ReadResponse(c.r, nil)
		require.NoError(t, err, v.name)
		require.Equal(t, v.status, resp.StatusCode, v.name)
		require.Equal(t, v.reason, resp.Header.Get(mesh.HeaderReason), v.name)
		require.True(t, resp.Close, v.name)
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err, v.name)
		require.Empty(t, c.ends(), "%s: nothing behind a refusal is answered", v.name)
		require.NoError(t, c.Close())
	}
	var long []vector
	for _, v := range all {
		if len(v.in) > socket.BufferSize {
			long = append(long, v)
			continue
		}
		refuses(v)
	}
	require.Empty(t, o.bytes())
	require.Zero(t, o.connections())
	require.NotEmpty(t, long)
	for _, v := range long { // for the rest of a body nobody waits for long, so that its beginning may be sent on
		refuses(v)
	}
	require.Zero(t, whole.Load())
}

// TestAcceptedRequestsReachTheOriginOnce replays what the codec accepts: the origin, which reads by net/http, must see exactly one request with the body that was meant.
func TestAcceptedRequestsReachTheOriginOnce(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Requests() {
		if v.Status != 0 || v.Want.Method == "CONNECT" || v.Want.Expect || v.Want.Upgrade || v.Want.Length > 1<<20 {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			_, o, at := simple(t, echoing, nil)
			c := call(t, at)
			whole := v.In
			if v.Want.Body == "content-length" && int64(len(v.Want.Rest)) < v.Want.Length {
				whole += strings.Repeat("x", int(v.Want.Length)-len(v.Want.Rest))
			}
			if v.Want.Body == "chunked" && v.Want.Rest == "" {
				whole += http1.LastChunk
			}
			c.say(whole)
			method := v.Want.Method
			if method == "" {
				method = "GET"
			}
			c.reply(method)
			origin := bufio.NewReader(strings.NewReader(o.bytes()))
			first, err := http.ReadRequest(origin)
			require.NoError(t, err)
			require.Equal(t, method, first.Method)
			n, err := io.Copy(io.Discard, first.Body)
			require.NoError(t, err)
			if v.Want.Body == "content-length" {
				require.Equal(t, v.Want.Length, n)
			}
		})
	}
}

// TestBadAnswersNeverReachTheCaller replays answers that break HTTP: the caller gets a 502 or an answer that is visibly incomplete, and nothing of the origin's
// connection is ever used again.
func TestBadAnswersNeverReachTheCaller(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Responses() {
		if v.Reason == "" || v.Upgrade || v.Method == "CONNECT" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			_, o, at := simple(t, func(k *talk) {
				k.head()
				k.say(v.In)
			}, nil)
			method := v.Method
			if method == "" {
				method = "GET"
			}
			c := call(t, at)
			for i := range 2 {
				c.say(fmt.Sprintf("%s /%d HTTP/1.1\r\nHost: b\r\n\r\n", method, i))
				resp, _ := c.reply(method)
				require.Equal(t, 502, resp.StatusCode)
				require.Equal(t, ReasonBadResponse, resp.Header.Get(mesh.HeaderReason))
			}
			require.Equal(t, 2, o.connections())
		})
	}
}

// statusOf is the status with which a reason is answered.
func statusOf(reason string) int {
	for _, e := range http1.Reasons(http1.Request) {
		if e.Reason == reason {
			return e.Status
		}
	}
	return 0
}

// The mesh's own headers are known to the parser by the names that all else uses.
func TestHeadersOfTheMeshAreKnown(t *testing.T) {
	t.Parallel()
	for id, name := range map[http1.Known]string{
		http1.XRequestID: mesh.HeaderRequestID, http1.XMeshtestReason: mesh.HeaderReason, http1.XMeshtestToken: mesh.HeaderToken,
		http1.XMeshtestConfig: mesh.HeaderConfig, http1.XMeshtestPeer: mesh.HeaderPeer,
	} {
		require.Equal(t, name, id.String())
	}
}
