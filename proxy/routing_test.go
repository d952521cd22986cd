package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

func ptr[T any](v T) *T { return &v }

// A mirror gets a copy with its body, marked as a shadow, and whatever it does is of no consequence to the caller.
func TestMirrorsGetCopies(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, "hello"), nil)
	shadow := newOrigin(t, answering(500, "whatever"))
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	to := r.service("shadow", mesh.HTTP, map[string][]string{"v1": {shadow.address}})
	rule := split(host, "")
	rule.Mirrors = []mesh.Mirror{{Host: to, Port: 80, Share: 1}}
	r.routes(host, rule)
	r.apply()
	c := call(t, at)
	for range 3 {
		c.say("POST /orders HTTP/1.1\r\nHost: backend:80\r\nContent-Length: 5\r\n\r\nthree")
		resp, body := c.reply("POST")
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, "hello", body)
	}
	r.tells(`mirrored_total{outcome="answered",to="shadow",version="v1"} 3`)
	require.Equal(t, 3, strings.Count(shadow.bytes(), "POST /orders HTTP/1.1\r\nHost: backend-shadow:80\r\n"))
	require.Equal(t, 3, strings.Count(shadow.bytes(), "\r\n\r\nthree"))
	require.Equal(t, 3, strings.Count(o.bytes(), "Host: backend:80\r\n"))
	cells, _, _ := r.evidenceOf(3)
	for _, cell := range cells {
		require.Equal(t, "backend", cell.Edge.To, "copies are no evidence")
	}
}

// A copy is for the host that the request itself goes on with, and who called is told to the mesh alone, whatever the request's own destination is.
func TestMirrorsOfWhatIsRewritten(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		outside, mirrorOutside bool
		change                 func(*mesh.Route)
		host                   string
	}{
		"authority":        {change: func(r *mesh.Route) { r.Rewrite = &mesh.Rewrite{Authority: "inner.example", Path: "/"} }, host: "inner.example-shadow"},
		"host":             {change: func(r *mesh.Route) { r.Split[0].Request.Set = map[string]string{"host": "inner.example:81"} }, host: "inner.example-shadow:81"},
		"mirror outside":   {mirrorOutside: true, host: "backend-shadow"},
		"original outside": {outside: true, host: "backend-shadow"},
		"both outside":     {outside: true, mirrorOutside: true, host: "backend-shadow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, o, at := simple(t, answering(200, "hello"), nil)
			shadow := newOrigin(t, answering(200, ""))
			host := mesh.FQDN("backend", mesh.DefaultNamespace)
			to := r.service("shadow", mesh.HTTP, map[string][]string{"v1": {shadow.address}})
			r.snapshot.Services[host].External, r.snapshot.Services[to].External = test.outside, test.mirrorOutside
			rule := split(host, "")
			rule.Mirrors = []mesh.Mirror{{Host: to, Port: 80, Share: 1}}
			if test.change != nil {
				test.change(&rule)
			}
			r.routes(host, rule)
			r.apply()
			resp, _ := call(t, at).get("/", mesh.HeaderPeer+": somebody")
			require.Equal(t, 200, resp.StatusCode)
			r.tells(`mirrored_total{outcome="answered",to="shadow",version="v1"} 1`)
			require.Contains(t, shadow.bytes(), "Host: "+test.host+"\r\n")
			tells := func(outside bool) (n int) {
				if !outside {
					n = 1
				}
				return n
			}
			require.Equal(t, tells(test.outside), strings.Count(o.bytes(), mesh.HeaderPeer), o.bytes())
			require.Equal(t, tells(test.mirrorOutside), strings.Count(shadow.bytes(), mesh.HeaderPeer), shadow.bytes())
		})
	}
}

// The share of a mirror is drawn by the request's key: the same requests are copied whenever they come.
func TestMirrorsTakeAShare(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, "hello"), nil)
	shadow := newOrigin(t, answering(200, ""))
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	to := r.service("shadow", mesh.HTTP, map[string][]string{"v1": {shadow.address}})
	rule := split(host, "")
	rule.Mirrors = []mesh.Mirror{{Host: to, Port: 80, Share: 0.3}}
	r.routes(host, rule)
	r.apply()
	c := call(t, at)
	for i := range 200 {
		c.get("/", fmt.Sprintf("x-request-id: users-%d", i))
	}
	var want int
	for i := range 200 {
		rules := r.srv.config.Load().router.Table(host, 80).Rules
		if rules[0].Mirrors[0].Copies(7, fmt.Sprintf("users-%d", i)) {
			want++
		}
	}
	require.InDelta(t, 60, want, 20)
	r.tells(fmt.Sprintf(`mirrored_total{outcome="answered",to="shadow",version="v1"} %d`, want))
}

func TestMirrorsOfNobody(t *testing.T) {
	t.Parallel()
	r, _, at := simple(t, answering(200, "hello"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	to := r.service("shadow", mesh.HTTP, map[string][]string{"v1": {testport.Refusing(t)}})
	rule := split(host, "")
	rule.Mirrors = []mesh.Mirror{{Host: to, Port: 80, Share: 1}}
	r.routes(host, rule)
	r.apply()
	resp, _ := call(t, at).get("/")
	require.Equal(t, 200, resp.StatusCode)
	r.tells(`mirrored_total{outcome="failed",to="shadow",version="v1"} 1`)
}

func TestCORS(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, "hello", "Access-Control-Allow-Origin: *"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	rule := split(host, "")
	rule.CORS = &mesh.CORS{Origins: []mesh.StringMatch{{Exact: ptr("https://shop.example")}}, Methods: []string{"GET", "PUT"}, Credentials: true, MaxAge: time.Minute}
	r.routes(host, rule)
	r.apply()
	c := call(t, at)
	c.say("OPTIONS / HTTP/1.1\r\nHost: b\r\nOrigin: https://shop.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n")
	resp, _ := c.reply("OPTIONS")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "https://shop.example", resp.Header.Get("access-control-allow-origin"))
	require.Equal(t, "GET,PUT", resp.Header.Get("access-control-allow-methods"))
	require.Equal(t, "60", resp.Header.Get("access-control-max-age"))
	require.Empty(t, o.bytes(), "the service is not asked")

	resp, _ = c.get("/", "Origin: https://shop.example")
	require.Equal(t, []string{"https://shop.example"}, resp.Header.Values("access-control-allow-origin"), "in place of what the service says")
	require.Equal(t, "true", resp.Header.Get("access-control-allow-credentials"))
	resp, _ = c.get("/", "Origin: https://evil.example")
	require.Equal(t, 200, resp.StatusCode)
	require.Empty(t, resp.Header.Get("access-control-allow-credentials"))
}

func TestArmsThatRefuse(t *testing.T) {
	t.Parallel()
	r, o, at := simple(t, answering(200, "hello"), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	r.routes(host, mesh.Route{Name: "r", Split: []mesh.Destination{{Refuse: 500, Weight: 1}}})
	r.apply()
	resp, _ := call(t, at).get("/")
	require.Equal(t, 500, resp.StatusCode)
	require.Equal(t, ReasonRefusedByRoute, resp.Header.Get(mesh.HeaderReason))
	require.Empty(t, o.bytes())
}

// Requests that have the same header go to the same endpoint, and a cookie is made for those who have none.
func TestConsistentHash(t *testing.T) {
	t.Parallel()
	var addresses []string
	for i := range 5 {
		addresses = append(addresses, newOrigin(t, answering(200, fmt.Sprint(i))).address)
	}
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": addresses})
	at := r.outbound(host, mesh.HTTP)
	svc := r.snapshot.Services[host]
	policy := func(h mesh.HashPolicy) {
		next := *svc
		next.Traffic = mesh.TrafficPolicy{Balancer: mesh.RingHash, Hash: &h}
		r.snapshot.Services[host] = &next
		r.apply()
	}
	ask := func(header string) (string, string) {
		resp, body := call(t, at).get("/?user=u1", header)
		return body, resp.Header.Get("set-cookie")
	}
	policy(mesh.HashPolicy{Header: "x-user"})
	seen := map[string]bool{}
	for user := range 20 {
		first, _ := ask(fmt.Sprintf("x-user: %d", user))
		seen[first] = true
		for range 3 {
			again, _ := ask(fmt.Sprintf("x-user: %d", user))
			require.Equal(t, first, again)
		}
	}
	require.Greater(t, len(seen), 2, "users are spread")

	policy(mesh.HashPolicy{Cookie: &mesh.HashCookie{Name: "stick", TTL: time.Minute, Path: "/"}})
	first, cookie := ask("x-user: 1")
	require.Regexp(t, `^stick=[0-9a-f]+; Max-Age=60; Path=/; HttpOnly$`, cookie)
	for range 5 {
		again, more := ask("Cookie: " + strings.Split(cookie, ";")[0])
		require.Equal(t, first, again)
		require.Empty(t, more)
	}
	policy(mesh.HashPolicy{Query: "user"})
	first, _ = ask("x-user: 1")
	for range 5 {
		again, _ := ask("x-user: 2")
		require.Equal(t, first, again)
	}
}

// An endpoint that fails again and again is taken out of use, whoever of the two counts.
func TestOutliersAreEjected(t *testing.T) {
	t.Parallel()
	bad, good := newOrigin(t, answering(503, "bad")), newOrigin(t, answering(200, "good"))
	r := newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {bad.address, good.address}})
	r.snapshot.Services[host].Traffic = mesh.TrafficPolicy{
		Balancer: mesh.RoundRobin, Outlier: &mesh.OutlierDetection{Consecutive5xx: 3, MaxEjectionPercent: 50, BaseEjection: time.Hour, MaxEjection: time.Hour},
	}
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	c := call(t, at)
	failed := 0
	for range 40 {
		if resp, _ := c.get("/"); resp.StatusCode != 200 {
			failed++
		}
	}
	require.Equal(t, 3, failed)
}

// Whoever has no cookie to choose by is given one, however many attempts his request took.
func TestOneCookieForAllAttempts(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	one, other := newOrigin(t, answering(503, "no")), newOrigin(t, answering(503, "no"))
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {one.address, other.address}})
	r.snapshot.Services[host].Traffic = mesh.TrafficPolicy{Balancer: mesh.RingHash, Hash: &mesh.HashPolicy{Cookie: &mesh.HashCookie{Name: "user", TTL: time.Hour, Path: "/"}}}
	again := split(host, "v1")
	again.Retry = &mesh.Retry{Attempts: 3, On: []mesh.RetryOn{mesh.On5xx}, BackoffBase: time.Millisecond}
	r.routes(host, again)
	at := r.outbound(host, mesh.HTTP)
	r.apply()
	c := call(t, at)
	resp, _ := c.get("/")
	require.Equal(t, 4, strings.Count(one.bytes()+other.bytes(), "GET /"))
	given := resp.Cookies()
	require.Len(t, given, 1)
	require.Equal(t, "user", given[0].Name)
	require.Equal(t, 3600, given[0].MaxAge)
	require.Equal(t, "/", given[0].Path)
	next, _ := c.get("/")
	require.NotEqual(t, given[0].Value, next.Cookies()[0].Value, "the next request of the connection has its own")
	kept, _ := c.get("/", "cookie: user="+given[0].Value)
	require.Empty(t, kept.Cookies())
}
