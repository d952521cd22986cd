package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http2"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// requestsTotal sums up Istio's count of requests, whatever became of them.
func (r *rig) requestsTotal() (n int) {
	for line := range strings.Lines(r.metrics()) {
		if strings.HasPrefix(line, "istio_requests_total{") {
			var one int
			_, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &one)
			require.NoError(r.t, err, line)
			n += one
		}
	}
	return n
}

// logs are the lines of an access log so far, which ends with that.
func logs(t *testing.T, log *telemetry.AccessLog) (lines []map[string]any) {
	t.Helper()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var text bytes.Buffer
	require.NoError(t, log.Run(over, &text))
	for line := range strings.Lines(text.String()) {
		var one map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &one), line)
		lines = append(lines, one)
	}
	return lines
}

// What the codec refuses was answered, so it is a request like any other: it is counted, logged and told as evidence, with what was read of it.
func TestRefusedRequestsAreCounted(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 33<<10)
	tests := map[string]struct {
		send   string
		status int
		reason string
		flags  string
		key    any
		path   any
	}{
		"block":       {"GET /a HTTP/1.1\r\nHost: b\r\nx-request-id: users-1\r\nx: " + long + "\r\n\r\n", 431, "header_too_large", "DPE", "users-1", "/a"},
		"target":      {"GET /" + long + " HTTP/1.1\r\nHost: b\r\n\r\n", 414, "target_too_long", "DPE", nil, nil},
		"expectation": {"GET /a HTTP/1.1\r\nHost: b\r\nExpect: cake\r\nx-request-id: users-2\r\n\r\n", 417, "expectation_unsupported", "DPE", "users-2", "/a"},
		"host":        {"GET /a HTTP/1.1\r\nx-request-id: users-3\r\n\r\n", 400, "host_missing", "DPE", "users-3", "/a"},
		"noise":       {"\x01\x02\r\n", 400, "control_character", "DPE", nil, nil},
		"slow head":   {"GET /a HTTP/1.1\r\nHost: b\r\nx-request-id: users-4\r\n", 408, ReasonHeaderTimeout, "DT", "users-4", "/a"},
		"slow block":  {"GET /a HTTP/1.1\r\nHost: b\r\nx-request-id: users-5\r\nx: " + long[:20<<10], 408, ReasonHeaderTimeout, "DT", "users-5", "/a"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := telemetry.NewAccessLog(telemetry.AccessLogOptions{Mode: telemetry.LogComplete})
			r, o, at := simple(t, answering(200, ""), func(o *Options) {
				o.AccessLog = log
				if test.status == 408 {
					o.Timeouts.Header = 50 * time.Millisecond
				}
			})
			c := call(t, at)
			c.say(test.send)
			resp, body := c.reply("GET")
			require.Equal(t, test.status, resp.StatusCode)
			require.Equal(t, test.reason, resp.Header.Get(mesh.HeaderReason))
			require.Equal(t, test.reason, body)
			require.True(t, resp.Close)

			cells, _, edges := r.evidenceOf(1)
			require.Equal(t, mesh.Edge{From: "frontend", To: "backend"}, cells[0].Edge)
			require.Zero(t, edges[0].Minted, "nobody knows whether the key was dropped on the way")
			require.Contains(t, r.metrics(), fmt.Sprintf(`response_code="%d",grpc_response_status="",response_flags="%s"} 1`, test.status, test.flags))
			require.Equal(t, 1, r.requestsTotal())
			lines := logs(t, log)
			require.Len(t, lines, 1)
			require.EqualValues(t, test.status, lines[0]["response_code"])
			require.Equal(t, test.flags, lines[0]["response_flags"])
			require.Equal(t, test.reason, lines[0]["response_code_details"])
			require.Equal(t, test.path, lines[0]["path"])
			if test.key != nil {
				require.Equal(t, test.key, lines[0]["request_id"])
			}
			require.Zero(t, o.connections())
		})
	}
}

// A request that is refused behind others of its connection is one more, and has nothing of theirs.
func TestRefusedBehindOthers(t *testing.T) {
	t.Parallel()
	log := telemetry.NewAccessLog(telemetry.AccessLogOptions{Mode: telemetry.LogComplete})
	r, _, at := simple(t, echoing, func(o *Options) { o.AccessLog = log })
	c := call(t, at)
	c.say("POST /first HTTP/1.1\r\nHost: b\r\nx-request-id: users-1\r\nContent-Length: 5\r\n\r\nhello" + "GET /second HTTP/1.1\r\nHost: b\r\nHost: b\r\n\r\n")
	resp, _ := c.reply("POST")
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = c.reply("GET")
	require.Equal(t, 400, resp.StatusCode)
	r.evidenceOf(2)
	require.Equal(t, 2, r.requestsTotal())
	lines := logs(t, log)
	require.Len(t, lines, 2)
	require.Equal(t, "/second", lines[1]["path"])
	require.NotEqual(t, "users-1", lines[1]["request_id"])
	for _, name := range []string{"bytes_received", "attempts"} {
		require.Zero(t, lines[1][name], name)
	}
	require.Nil(t, lines[1]["upstream_host"])
}

// A head that HTTP/2 is too large for is answered before it is a stream, and counted all the same.
func TestRefusedHeadsOfHTTP2AreCounted(t *testing.T) {
	t.Parallel()
	log := telemetry.NewAccessLog(telemetry.AccessLogOptions{Mode: telemetry.LogComplete})
	r, o, at := simple(t, answering(200, ""), func(o *Options) { o.AccessLog = log })
	c := call(t, at)
	c.say(h2.ClientPreface)
	frames := h2.NewFramer(c, c.r)
	frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(t, frames.WriteSettings())
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	send := func(name, value string) {
		require.NoError(t, fields.WriteField(hpack.HeaderField{Name: name, Value: value}))
	}
	send(":method", "GET")
	send(":scheme", "http")
	send(":authority", "b")
	send(":path", "/")
	for range 20 {
		send("x", strings.Repeat("x", 3000)) // once in full, and then as a reference of one byte
	}
	require.NoError(t, frames.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}))
	var answer *h2.MetaHeadersFrame
	for is := false; !is; {
		frame, err := frames.ReadFrame()
		require.NoError(t, err)
		answer, is = frame.(*h2.MetaHeadersFrame)
	}
	require.Equal(t, "431", answer.PseudoValue("status"))
	r.evidenceOf(1)
	require.Contains(t, r.metrics(), `response_code="431",grpc_response_status="",response_flags="DPE"} 1`)
	require.Equal(t, 1, r.requestsTotal())
	lines := logs(t, log)
	require.Len(t, lines, 1)
	require.Equal(t, "HTTP/2", lines[0]["protocol"])
	require.Equal(t, http2.ReasonHeaders, lines[0]["response_code_details"])
	require.Zero(t, o.connections())
}

// Who goes before a whole head is there has asked for nothing.
func TestNoRequestsAreNotCounted(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, ""), nil)
	for _, part := range []string{"", "G", "GET /a HTTP/1.1\r\nHost: b\r\n"} {
		c := call(t, at)
		c.say(part)
		require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
		require.Empty(t, c.ends())
	}
	resp, _ := call(t, at).get("/")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	r.evidenceOf(1)
	require.Equal(t, 1, r.requestsTotal())
}

// Who goes in the middle of his body gets no answer, and nobody says that he sent a bad request. However he goes, and wherever his body was.
func TestCallersWhoLeaveWhileTheySend(t *testing.T) {
	t.Parallel()
	const whole = "POST / HTTP/1.1\r\nHost: b\r\n"
	for name, send := range map[string]string{
		"length":          whole + "Content-Length: 10\r\n\r\nhello",
		"chunk":           whole + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
		"between chunks":  whole + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"nothing came":    whole + "Content-Length: 10\r\n\r\n",
		"long and passed": whole + "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000),
	} {
		for _, half := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/half %t", name, half), func(t *testing.T) {
				t.Parallel()
				ended := make(chan error, 1)
				r, o, at := simple(t, func(k *talk) {
					_ = k.head()
					_, err := io.Copy(io.Discard, k.r)
					ended <- err
				}, nil)
				c := call(t, at)
				c.say(send)
				if len(send) > 100_000 {
					require.Eventually(t, func() bool { return len(o.bytes()) > 100_000 }, patience, time.Millisecond)
				}
				if half {
					require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
					require.Empty(t, c.ends())
				} else {
					require.NoError(t, c.Close())
				}
				cells, errs, _ := r.evidenceOf(1)
				require.EqualValues(t, 1, cells[0].Failed)
				require.Equal(t, reasonCallerGone, errs[0].Reason)
				require.Zero(t, errs[0].Status)
				require.Contains(t, r.metrics(), `response_code="0",grpc_response_status="",response_flags="DC"} 1`)
				if o.connections() > 0 {
					<-ended // the upstream is not left waiting for the rest
				}
			})
		}
	}
}
