package route

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

func corsOf(t testing.TB, c mesh.CORS) *CORS {
	t.Helper()
	compiled, err := compileCORS(&c)
	require.NoError(t, err)
	return compiled
}

// said are headers as NAME: VALUE.
func said(edits []Edit) (all []string) {
	for _, e := range edits {
		all = append(all, e.Name+": "+e.Value)
	}
	return all
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	shop := mesh.CORS{
		Origins: []mesh.StringMatch{*exact("https://shop.test"), *prefix("http://dev."), *regex(`https://[^/:]+\.shop\.test`)},
		Methods: []string{"GET", "PUT"}, Headers: []string{"x-a", "x-b"}, Expose: []string{"x-c"}, MaxAge: 90 * time.Second,
	}
	with := func(change func(*mesh.CORS)) mesh.CORS {
		c := shop
		change(&c)
		return c
	}
	asked := []Header{{"Origin", "https://shop.test"}, {"Access-Control-Request-Method", "PUT"}, {"Access-Control-Request-Headers", "x-b, x-z"}}
	granted := []string{"access-control-allow-origin: https://shop.test", "access-control-allow-methods: GET,PUT", "access-control-allow-headers: x-a,x-b", "access-control-max-age: 90"}
	from := func(origin string) []Header { return []Header{{"Origin", origin}, asked[1], asked[2]} }
	for name, c := range map[string]struct {
		cors     mesh.CORS
		method   string
		headers  []Header
		answered bool
		want     []string
	}{
		"granted":                {shop, "OPTIONS", asked, true, granted},
		"by a prefix":            {shop, "OPTIONS", from("http://dev.test"), true, append([]string{"access-control-allow-origin: http://dev.test"}, granted[1:]...)},
		"by an expression":       {shop, "OPTIONS", from("https://eu.shop.test"), true, append([]string{"access-control-allow-origin: https://eu.shop.test"}, granted[1:]...)},
		"another origin goes on": {shop, "OPTIONS", from("https://evil.test"), false, nil},
		"another is refused":     {with(func(c *mesh.CORS) { c.AnswerAll = true }), "OPTIONS", from("https://evil.test"), true, nil},
		"no origin":              {shop, "OPTIONS", asked[1:], false, nil},
		"an empty origin":        {shop, "OPTIONS", from(""), false, nil},
		"no method asked for":    {shop, "OPTIONS", asked[:1], false, nil},
		"not OPTIONS":            {shop, "GET", asked, false, nil},
		"any origin": {with(func(c *mesh.CORS) { c.Origins = []mesh.StringMatch{*prefix("")} }), "OPTIONS", from("https://evil.test"), true,
			append([]string{"access-control-allow-origin: https://evil.test"}, granted[1:]...)},
		"any origin, by a star": {with(func(c *mesh.CORS) { c.Origins = []mesh.StringMatch{*exact("*")} }), "OPTIONS", asked, true, granted},
		"credentials, and stars are what was asked for": {
			with(func(c *mesh.CORS) { c.Credentials, c.Methods, c.Headers = true, []string{"*"}, []string{"*"} }), "OPTIONS", asked, true,
			[]string{granted[0], "access-control-allow-credentials: true", "access-control-allow-methods: PUT", "access-control-allow-headers: x-b, x-z", granted[3]},
		},
		"all headers, none asked for": {
			with(func(c *mesh.CORS) { c.Headers = []string{"*"} }), "OPTIONS", asked[:2], true, []string{granted[0], granted[1], granted[3]},
		},
		"nothing beside the origin": {mesh.CORS{Origins: shop.Origins}, "OPTIONS", asked, true, granted[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			headers, answered := corsOf(t, c.cors).Preflight(nil, &View{Method: c.method, Headers: c.headers})
			require.Equal(t, c.answered, answered)
			require.Equal(t, c.want, said(headers))
		})
	}
}

func TestActualRequestOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	allowed := []mesh.StringMatch{*exact("https://shop.test")}
	get := func(origin string) *View { return &View{Method: "GET", Headers: []Header{{"origin", origin}}} }
	for name, c := range map[string]struct {
		cors mesh.CORS
		req  *View
		want []string
	}{
		"allowed": {mesh.CORS{Origins: allowed, Methods: []string{"GET"}, Expose: []string{"x-a", "x-b"}, MaxAge: time.Second}, get("https://shop.test"),
			[]string{"access-control-allow-origin: https://shop.test", "access-control-expose-headers: x-a,x-b", "vary: origin"}},
		"all are exposed": {mesh.CORS{Origins: allowed, Expose: []string{"*"}}, get("https://shop.test"),
			[]string{"access-control-allow-origin: https://shop.test", "access-control-expose-headers: *", "vary: origin"}},
		"with credentials a star is no word": {mesh.CORS{Origins: allowed, Expose: []string{"*"}, Credentials: true}, get("https://shop.test"),
			[]string{"access-control-allow-origin: https://shop.test", "access-control-allow-credentials: true", "vary: origin"}},
		"not allowed": {mesh.CORS{Origins: allowed}, get("http://shop.test"), nil},
		"no origin":   {mesh.CORS{Origins: allowed}, &View{Method: "GET"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, said(corsOf(t, c.cors).Actual(nil, c.req)))
		})
	}
	var none *CORS
	require.Nil(t, none.Actual(nil, get("https://shop.test")))
	_, answered := none.Preflight(nil, get("https://shop.test"))
	require.False(t, answered)
}

func TestCORSAllocatesNothing(t *testing.T) {
	c := corsOf(t, mesh.CORS{Origins: []mesh.StringMatch{*exact("https://shop.test")}, Methods: []string{"*"}, Expose: []string{"x"}})
	req := headWith(t, "OPTIONS", "/", "middleware", "Origin: https://shop.test\r\nAccess-Control-Request-Method: PUT\r\n")
	edits := make([]Edit, 0, 8)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		headers, answered := c.Preflight(edits, req)
		if !answered || len(headers) != 2 || len(c.Actual(edits, req)) != 3 {
			panic("it does not answer")
		}
	}))
}
