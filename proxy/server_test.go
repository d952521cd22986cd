package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

func TestCarriesRequestsOnKeptConnections(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, "hello"), nil)
	c := call(t, at)
	for i := range 3 {
		resp, body := c.get("/a?b=c", fmt.Sprintf("x-request-id: users-%d", i))
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "hello", body)
	}
	require.Contains(t, o.bytes(), "GET /a?b=c HTTP/1.1\r\nHost: backend\r\nx-request-id: users-0\r\n")
	require.Equal(t, 1, o.connections())

	cells, errs, edges := r.evidenceOf(3)
	require.Empty(t, errs)
	require.Equal(t, mesh.Edge{From: "frontend", To: "backend"}, cells[0].Edge)
	require.Equal(t, "users", cells[0].Stream)
	require.Equal(t, "default", cells[0].Route)
	require.Equal(t, "v1", cells[0].Version)
	require.Equal(t, mesh.Generation{Epoch: 1, Counter: 1}, cells[0].Generation)
	require.Zero(t, edges[0].Minted)
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, echoing, nil)
	c := call(t, at)
	var all strings.Builder
	const n = 50
	for i := range n {
		body := fmt.Sprintf("request %d", i)
		fmt.Fprintf(&all, "POST / HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	c.say(all.String())
	for i := range n {
		_, body := c.reply("POST")
		require.Equal(t, fmt.Sprintf("request %d", i), body)
	}
}

func TestRequestsInSinglyWrittenBytes(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, echoing, nil)
	c := call(t, at)
	for range 2 {
		for _, b := range []byte("POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n2\r\nde\r\n0\r\n\r\n") {
			c.say(string(b))
		}
		_, body := c.reply("POST")
		require.Equal(t, "abcde", body)
	}
}

func TestBodiesThatAreAndAreNot(t *testing.T) {
	t.Parallel()
	script := func(k *talk) {
		for {
			req, _ := k.request()
			if req == nil {
				return
			}
			switch req.URL.Path {
			case "/204":
				k.say("HTTP/1.1 204 No Content\r\n\r\n")
			case "/304":
				k.say("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n")
			case "/empty":
				k.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			case "/chunked":
				k.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				k.say("3\r\nabc\r\n")
				k.say("3;drop=me\r\ndef\r\n0\r\nx-trailer: t\r\n\r\n")
			case "/interim":
				k.say("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			default: // HEAD
				k.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
			}
		}
	}
	_, o, at := simple(t, script, nil)
	c := call(t, at)
	c.say("HEAD / HTTP/1.1\r\nHost: b\r\n\r\n")
	resp, body := c.reply("HEAD")
	require.Equal(t, int64(1000), resp.ContentLength)
	require.Empty(t, body)
	resp, _ = c.get("/204")
	require.Equal(t, 204, resp.StatusCode)
	resp, body = c.get("/304")
	require.Equal(t, 304, resp.StatusCode)
	require.Empty(t, body)
	_, body = c.get("/empty")
	require.Empty(t, body)
	resp, body = c.get("/chunked")
	require.Equal(t, "abcdef", body)
	require.Equal(t, []string{"chunked"}, resp.TransferEncoding)
	require.Equal(t, "t", resp.Trailer.Get("x-trailer"))
	c.say("GET /interim HTTP/1.1\r\nHost: b\r\n\r\n")
	resp, _ = c.reply("GET")
	require.Equal(t, 103, resp.StatusCode)
	resp, body = c.reply("GET")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "ok", body)
	require.Equal(t, 1, o.connections(), "every one of these leaves both connections usable")
}

func TestHTTP10Callers(t *testing.T) {
	t.Parallel()
	_, o, at := simple(t, func(k *talk) {
		for k.head() != "" {
			k.say("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
		}
	}, nil)
	c := call(t, at)
	c.say("GET / HTTP/1.0\r\n\r\n")
	all := c.ends()
	require.Contains(t, o.bytes(), "Host: backend.default.svc.cluster.local\r\n")
	require.True(t, strings.HasPrefix(all, "HTTP/1.1 200 OK\r\n"), all)
	require.NotContains(t, all, "chunked")
	require.True(t, strings.HasSuffix(all, "\r\n\r\nabcdef"), all)
}

func TestAnswersThatEndWithTheConnection(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, func(k *talk) {
		k.head()
		k.say("HTTP/1.1 200 OK\r\n\r\nall of ")
		k.say("it")
	}, nil)
	c := call(t, at)
	resp, body := c.get("/")
	require.True(t, resp.Close)
	require.Equal(t, "all of it", body)
	require.Empty(t, c.ends())
}

func TestIncompleteAnswersDoNotLookWhole(t *testing.T) {
	t.Parallel()
	for name, said := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n",
		"garbled": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\nxyz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, at := simple(t, func(k *talk) {
				k.head()
				k.say(said)
			}, nil)
			c := call(t, at)
			c.say("GET / HTTP/1.1\r\nHost: b\r\n\r\n")
			resp, err := http.ReadResponse(c.r, nil)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
			}
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			_, errs, _ := r.evidenceOf(1)
			require.Equal(t, reasonUpstreamCut, errs[0].Reason)
		})
	}
}

func TestLargeBodiesBothWays(t *testing.T) {
	t.Parallel()
	_, o, at := simple(t, echoing, nil)
	big := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, body := range []io.Reader{strings.NewReader(big), io.MultiReader(strings.NewReader(big))} { // by length, and chunked
		for range 2 {
			if s, ok := body.(io.Seeker); ok {
				_, err := s.Seek(0, io.SeekStart)
				require.NoError(t, err)
			} else {
				body = io.MultiReader(strings.NewReader(big))
			}
			resp, err := client.Post("http://"+at+"/", "text/plain", io.NopCloser(body))
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, len(big), len(got))
			require.True(t, big == string(got))
		}
	}
	require.Positive(t, o.connections())
}

func TestEarlyAnswerToAnUnreadBody(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, func(k *talk) {
		k.head()
		k.say(answer(413, "too much"))
	}, nil)
	for _, framing := range []string{"Content-Length: 10000000", "Content-Length: 100", "Transfer-Encoding: chunked"} {
		c := call(t, at)
		c.say("POST / HTTP/1.1\r\nHost: b\r\n" + framing + "\r\n\r\n")
		resp, body := c.reply("POST")
		require.Equal(t, 413, resp.StatusCode, framing)
		require.Equal(t, "too much", body)
		require.True(t, resp.Close, framing)
		require.Empty(t, c.ends())
	}
}

func TestContinue(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, func(k *talk) {
		for {
			head := k.head()
			if head == "" {
				return
			}
			if strings.Contains(head, "/refused") {
				k.say(answer(403, ""))
				return
			}
			k.say("HTTP/1.1 100 Continue\r\n\r\n")
			body := make([]byte, 5)
			if _, err := io.ReadFull(k.r, body); err != nil {
				return
			}
			k.say(answer(200, string(body)))
		}
	}, nil)
	c := call(t, at)
	for range 2 {
		c.say("POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		resp, _ := c.reply("POST")
		require.Equal(t, 100, resp.StatusCode)
		c.say("hello")
		resp, body := c.reply("POST")
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "hello", body)
		c = call(t, at) // the answer may begin before the end of the upload is noted: such a connection is not kept
	}
	c.say("POST /refused HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	resp, _ := c.reply("POST")
	require.Equal(t, 403, resp.StatusCode)
	require.True(t, resp.Close)
}

func TestMalformedBodyOfAStreamedRequest(t *testing.T) {
	t.Parallel()
	_, o, at := simple(t, echoing, nil)
	c := call(t, at)
	c.say("POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n")
	c.say(fmt.Sprintf("%x\r\n%s\r\n", maxReplay+1, strings.Repeat("x", maxReplay+1)))
	c.say("not a size\r\n")
	resp, _ := c.reply("POST")
	require.Equal(t, 400, resp.StatusCode)
	require.Equal(t, "chunk_size_invalid", resp.Header.Get(mesh.HeaderReason))
	require.True(t, resp.Close)
	require.NotContains(t, o.bytes(), "not a size")
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, func(k *talk) {
		head := k.head()
		if !strings.Contains(strings.ToLower(head), "upgrade: echo\r\n") {
			k.say(answer(400, "no upgrade"))
			return
		}
		k.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nwelcome ")
		_, _ = io.Copy(k, k.r)
	}, nil)
	c := call(t, at)
	c.say("GET / HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := c.r.ReadString('\n')
		require.NoError(t, err)
		head += line
	}
	require.Contains(t, head, "101 Switching Protocols")
	require.Contains(t, head, "Connection: Upgrade\r\nUpgrade: echo\r\n")
	got := make([]byte, len("welcome early "))
	_, err := io.ReadFull(c.r, got)
	require.NoError(t, err)
	require.Equal(t, "welcome early ", string(got))
	c.say("late")
	got = got[:4]
	_, err = io.ReadFull(c.r, got)
	require.NoError(t, err)
	require.Equal(t, "late", string(got))
	require.NoError(t, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
	require.Empty(t, c.ends())
}

func TestTCP(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(k *talk) {
		k.say("220 ready\r\n") // the server speaks first
		_, _ = io.Copy(k, k.r)
	})
	r := newRig(t, nil)
	at := r.outbound(r.service("database", mesh.TCP, map[string][]string{"v1": {o.address}}), mesh.TCP)
	inbound := testport.Loopback(t)
	r.inbound.Listen = []mesh.InboundPort{{Bind: inbound, App: o.address, Port: 80, Protocol: mesh.TCP}}
	r.apply()
	for _, address := range []string{at, inbound} {
		c := call(t, address)
		line, err := c.r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "220 ready\r\n", line)
		const much = 5_000_000
		go func() {
			_, _ = io.WriteString(c, strings.Repeat("x", much))
			_ = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		}()
		require.Len(t, c.ends(), much)
	}
	r.stop()
	<-r.done
	r.tells(
		`istio_tcp_received_bytes_total{reporter="source"`, `istio_tcp_received_bytes_total{reporter="destination"`, `} 5e+06`, `} 5.000011e+06`,
		`istio_tcp_connections_closed_total{reporter="source"`,
	)
}

func TestInbound(t *testing.T) {
	t.Parallel()
	app := newOrigin(t, func(k *talk) {
		for {
			req, _ := k.request()
			if req == nil {
				return
			}
			k.say("HTTP/1.1 500 X\r\nContent-Length: 0\r\nx-meshtest-reason: forged\r\n\r\n")
		}
	})
	r := newRig(t, nil)
	at, dead := testport.Loopback(t), testport.Loopback(t)
	r.inbound.Listen = []mesh.InboundPort{
		{Bind: at, App: app.address, Port: 8080, Protocol: mesh.HTTP},
		{Bind: dead, App: testport.Refusing(t), Port: 8081, Protocol: mesh.HTTP},
	}
	r.apply()
	c := call(t, at)
	resp, _ := c.get("/", "x-request-id: users-1", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	require.Equal(t, 500, resp.StatusCode)
	require.Empty(t, resp.Header.Get(mesh.HeaderReason), "an application does not speak for the mesh")
	require.Contains(t, app.bytes(), "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n")
	require.Contains(t, app.bytes(), "x-request-id: users-1\r\n")
	c.get("/")
	require.Equal(t, 2, strings.Count(app.bytes(), "x-request-id: "), "a key is minted for a request without")

	resp, _ = call(t, dead).get("/")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, ReasonConnectFailure, resp.Header.Get(mesh.HeaderReason))
	r.stop()
	<-r.done
	r.tells(`istio_requests_total{reporter="destination"`, `destination_workload="frontend-v1"`, `connection_security_policy="none",response_code="500"`)
}

func TestHTTPProxy(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, echoing)
	r := newRig(t, nil)
	r.service("backend", mesh.HTTP, map[string][]string{"v1": {o.address}})
	r.inbound.Proxy = testport.Loopback(t)
	r.apply()
	c := call(t, r.inbound.Proxy)
	for _, host := range []string{"backend", "backend.default", "backend.default.svc.cluster.local:80"} {
		c.say("POST http://" + host + "/x HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 2\r\n\r\nhi")
		resp, body := c.reply("POST")
		require.Equal(t, 200, resp.StatusCode, host)
		require.Equal(t, "hi", body)
	}
	require.Contains(t, o.bytes(), "POST /x HTTP/1.1\r\n")
	c.say("GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n")
	resp, _ := c.reply("GET")
	require.Equal(t, 502, resp.StatusCode)
	require.Equal(t, ReasonUnknownHost, resp.Header.Get(mesh.HeaderReason))
	require.False(t, resp.Close)

	c.say("CONNECT backend:80 HTTP/1.1\r\nHost: backend:80\r\n\r\n")
	resp, err := http.ReadResponse(c.r, &http.Request{Method: "CONNECT"})
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	c.say("POST /tunnel HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nho")
	_, body := c.reply("POST")
	require.Equal(t, "ho", body)

	c = call(t, r.inbound.Proxy)
	c.say("CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere:80\r\n\r\n")
	resp, _ = c.reply("GET")
	require.Equal(t, 502, resp.StatusCode)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	v1, v2 := newOrigin(t, answering(200, "v1")), newOrigin(t, answering(200, "v2"))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {v1.address}, "v2": {v2.address}})
	at := r.outbound(host, mesh.HTTP)
	exact := func(s string) *mesh.StringMatch { return &mesh.StringMatch{Exact: &s} }
	prefix := func(s string) *mesh.StringMatch { return &mesh.StringMatch{Prefix: &s} }
	testers := split(host, "v2")
	testers.Name, testers.Matches = "testers", []mesh.Match{{Headers: map[string]mesh.HeaderTest{"x-dev-user": {Value: exact("tester")}}}}
	testers.Request = mesh.HeaderChange{Set: map[string]string{"x-seen": "yes"}, Remove: []string{"x-secret"}}
	testers.Response = mesh.HeaderChange{Add: map[string]string{"x-answered": "v2"}}
	moved := mesh.Route{Name: "moved", Matches: []mesh.Match{{Path: prefix("/old")}}, Redirect: &mesh.Redirect{Path: "/new", Code: 308}}
	fixed := mesh.Route{Name: "fixed", Matches: []mesh.Match{{Path: exact("/fixed")}}, Direct: &mesh.DirectResponse{Status: 418, Body: []byte("teapot")}}
	rest := split(host, "v1")
	rest.Matches = []mesh.Match{{Path: prefix("/api/")}}
	rest.Rewrite = &mesh.Rewrite{Path: "/v1/", Authority: "internal.example"}
	gone := split(host, "v9")
	gone.Name, gone.Matches = "gone", []mesh.Match{{Path: exact("/gone")}}
	r.routes(host, testers, moved, fixed, rest, gone)
	r.apply()

	c := call(t, at)
	resp, body := c.get("/", "x-dev-user: tester", "x-secret: s")
	require.Equal(t, "v2", body)
	require.Equal(t, "v2", resp.Header.Get("x-answered"))
	require.Contains(t, v2.bytes(), "x-seen: yes\r\n")
	require.NotContains(t, v2.bytes(), "x-secret")
	resp, _ = c.get("/old/x?q=1")
	require.Equal(t, 308, resp.StatusCode)
	require.Equal(t, "http://backend/new?q=1", resp.Header.Get("Location"))
	resp, body = c.get("/fixed")
	require.Equal(t, 418, resp.StatusCode)
	require.Equal(t, "teapot", body)
	require.Equal(t, ReasonDirectResponse, resp.Header.Get(mesh.HeaderReason))
	_, body = c.get("/api/../api/%7Ex?q")
	require.Equal(t, "v1", body)
	require.Contains(t, v1.bytes(), "GET /v1/~x?q HTTP/1.1\r\nHost: internal.example\r\n")
	resp, _ = c.get("/gone")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, ReasonNoDestination, resp.Header.Get(mesh.HeaderReason))
	resp, _ = c.get("/nobody")
	require.Equal(t, 404, resp.StatusCode)
	require.Equal(t, ReasonNoRoute, resp.Header.Get(mesh.HeaderReason))
}

func TestSplitsByTheRequestKey(t *testing.T) {
	t.Parallel()
	v1, v2 := newOrigin(t, answering(200, "v1")), newOrigin(t, answering(200, "v2"))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {v1.address}, "v2": {v2.address}})
	at := r.outbound(host, mesh.HTTP)
	r.routes(host, mesh.Route{Name: "canary", Split: []mesh.Destination{
		{Host: host, Subset: "v2", Port: 80, Weight: 30}, {Host: host, Subset: "v1", Port: 80, Weight: 70},
	}})
	r.apply()
	c := call(t, at)
	const n = 300
	for i := range n {
		key := fmt.Sprintf("users-%d", i)
		want := "v1"
		if mesh.Chance(7, mesh.PurposeSplit, "backend:80/canary", "frontend->backend", key, 0).Below(0.3) {
			want = "v2"
		}
		_, body := c.get("/", "x-request-id: "+key)
		require.Equal(t, want, body, key)
	}
	cells, _, _ := r.evidenceOf(n)
	for _, cell := range cells {
		require.Equal(t, map[string]float64{"v1": 0.7, "v2": 0.3}[cell.Version], cell.Share)
	}
}
