package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// atEdge is a rig whose sidecar is an edge, in front of an upstream that answers with the mesh's own headers.
func atEdge(t *testing.T) (*rig, *origin, string) {
	o := newOrigin(t, func(k *talk) {
		for {
			if req, _ := k.request(); req == nil {
				return
			}
			k.say("HTTP/1.1 503 X\r\nContent-Length: 0\r\nx-meshtest-reason: connect_failure\r\nx-meshtest-other: o\r\n\r\n")
		}
	})
	r := newRig(t, nil)
	r.inbound.Trusted = true
	at := r.outbound(r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}}), mesh.HTTP)
	r.apply()
	return r, o, at
}

var foreign = []string{
	"x-request-id: foreign-1", "X-Meshtest-Config: 1", "x-meshtest-fault: f", "x-envoy-fault-delay-request: 10", "x-forwarded-client-cert: By=me", "x-other: kept",
	"X-Forwarded-For: 10.9.8.7", "x-forwarded-proto: https", "X-Forwarded-Host: evil", "x-real-ip: 10.9.8.7", "x-envoy-max-retries: 9",
}

func TestEdgeStripsStrangers(t *testing.T) {
	t.Parallel()
	for name, extra := range map[string][]string{"no token": nil, "wrong token": {mesh.HeaderToken + ": open"}, "empty token": {mesh.HeaderToken + ":"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, o, at := atEdge(t)
			resp, _ := call(t, at).get("/", append(extra, foreign...)...)
			require.Equal(t, 503, resp.StatusCode)
			for header := range resp.Header {
				require.NotContains(t, strings.ToLower(header), "x-meshtest", "strangers do not see what is the mesh's own")
			}
			seen := strings.ToLower(o.bytes())
			require.Contains(t, seen, "x-meshtest-peer: 1;frontend-v1;", "the edge says who it is itself")
			seen = strings.Replace(seen, "x-meshtest-peer", "", 1)
			require.Contains(t, seen, "x-forwarded-for: 127.0.0.1\r\n")
			require.Equal(t, 1, strings.Count(seen, "x-forwarded-proto: http\r\n"))
			for _, gone := range []string{"10.9.8.7", "forwarded-host", "x-real-ip", "x-envoy-max", "foreign-1", "x-meshtest", "x-envoy-fault", "client-cert"} {
				require.NotContains(t, seen, gone)
			}
			require.Contains(t, seen, "x-other: kept")
			require.Regexp(t, `x-request-id: [0-9a-f]{32}\r`, seen)
			_, errs, edges := r.evidenceOf(1)
			require.Equal(t, "connect_failure", errs[0].Reason)
			require.Zero(t, edges[0].Minted, "it had one, however foreign")
		})
	}
}

func TestEdgeKnowsItsOwn(t *testing.T) {
	t.Parallel()
	r, o, at := atEdge(t)
	resp, _ := call(t, at).get("/", append([]string{mesh.HeaderToken + ": open sesame"}, foreign...)...)
	require.Equal(t, "connect_failure", resp.Header.Get(mesh.HeaderReason))
	require.Equal(t, "1.1", resp.Header.Get(mesh.HeaderConfig))
	seen := strings.ToLower(o.bytes())
	require.Contains(t, seen, "x-request-id: foreign-1\r")
	require.Contains(t, seen, "x-meshtest-fault: f\r")
	require.NotContains(t, seen, "sesame", "the token itself goes no further")
	require.NotContains(t, seen, "x-meshtest-token")
	cells, _, _ := r.evidenceOf(1)
	require.Equal(t, "foreign", cells[0].Stream)
	require.EqualValues(t, 1, cells[0].ByMesh)
}

func TestNobodyIsTheRunWithoutAToken(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	require.False(t, s.knows(s.config.Load(), nil))
	require.False(t, s.knows(s.config.Load(), []byte{}))
}

func TestInsideTheMeshHeadersPassButTheToken(t *testing.T) {
	t.Parallel()
	_, o, at := simple(t, answering(200, ""), nil)
	resp, _ := call(t, at).get("/", append([]string{mesh.HeaderToken + ": open sesame"}, foreign...)...)
	require.Empty(t, resp.Header.Get(mesh.HeaderConfig))
	seen := strings.ToLower(o.bytes())
	require.Contains(t, seen, "x-request-id: foreign-1\r")
	require.Contains(t, seen, "x-meshtest-fault")
	require.NotContains(t, seen, "x-meshtest-token")
}

func TestKeysAreMintedAndCounted(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, ""), nil)
	c := call(t, at)
	c.get("/")
	c.get("/", "x-request-id: users-1", "x-request-id: users-2")
	require.Equal(t, 1, strings.Count(o.bytes(), "users-"), "of several keys the first counts, and goes on alone")
	_, _, edges := r.evidenceOf(2)
	var seen, minted uint64
	for _, e := range edges {
		seen, minted = seen+e.Seen, minted+e.Minted
	}
	require.EqualValues(t, 2, seen)
	require.EqualValues(t, 1, minted)
}

func TestTraceContext(t *testing.T) {
	t.Parallel()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, test := range []struct {
		name string
		sent []string
		want []string // expressions
	}{
		{"none", nil, []string{
			`traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\r`, `x-b3-traceid: [0-9a-f]{32}\r`, `x-b3-spanid: [0-9a-f]{16}\r`, `x-b3-sampled: [01]\r`,
		}},
		{"w3c", []string{"traceparent: 00-" + trace + "-" + span + "-01", "tracestate: a=b"}, []string{`traceparent: 00-` + trace + `-[0-9a-f]{16}-01\r`, `tracestate: a=b\r`}},
		{"b3 several", []string{"x-b3-traceid: " + trace, "x-b3-spanid: " + span, "x-b3-sampled: 1"}, []string{
			`x-b3-traceid: ` + trace + `\r`, `x-b3-parentspanid: ` + span + `\r`, `x-b3-sampled: 1\r`, `x-b3-spanid: [0-9a-f]{16}\r`,
		}},
		{"b3 single", []string{"b3: " + trace + "-" + span + "-1"}, []string{`b3: ` + trace + `-[0-9a-f]{16}-1-` + span + `\r`}},
		{"b3 decision only", []string{"b3: 0"}, []string{`b3: 0\r`}},
		{"broken w3c", []string{"traceparent: 00-zz-" + span + "-01", "x-b3-traceid: " + trace}, []string{`traceparent: 00-zz-`, `x-b3-spanid: [0-9a-f]{16}\r`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, o, at := simple(t, answering(200, ""), nil)
			call(t, at).get("/", test.sent...)
			for _, want := range test.want {
				require.Regexp(t, want, o.bytes())
			}
			require.LessOrEqual(t, strings.Count(o.bytes(), "x-b3-spanid"), 1)
			require.LessOrEqual(t, strings.Count(o.bytes(), "traceparent"), 1)
			require.Equal(t, 1, strings.Count(o.bytes(), "x-forwarded-proto: http\r\n"))
		})
	}
}

func TestValidTraceparent(t *testing.T) {
	t.Parallel()
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for value, want := range map[string]bool{
		good: true, "01" + good[2:] + "-more": true, good + "-more": false, "ff" + good[2:]: false, good[:54]: false, strings.ToUpper(good): false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false, "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false, "": false,
	} {
		require.Equal(t, want, validTraceparent([]byte(value)), value)
	}
}

func TestRequestsThatNobodyCarries(t *testing.T) {
	t.Parallel()
	_, o, at := simple(t, answering(200, ""), nil)
	c := call(t, at)
	c.say("CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere:80\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	require.NoError(t, err)
	require.Equal(t, 405, resp.StatusCode)
	require.Contains(t, resp.Header.Get("Allow"), "GET, HEAD, POST")
	require.NotContains(t, resp.Header.Get("Allow"), "CONNECT")
	require.Zero(t, o.connections())
}
