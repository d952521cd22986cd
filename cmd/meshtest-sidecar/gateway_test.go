package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// gatewayOf is a Gateway with servers, and VirtualServices bound to it that send each host to the service of its first label.
func gatewayOf(servers string, hosts ...string) string {
	var b strings.Builder
	b.WriteString("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: front}\nspec:\n  servers: [" + servers + "]\n---\n")
	for _, host := range hosts {
		name, _, _ := strings.Cut(host, ".")
		b.WriteString("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + "}\nspec:\n  hosts: [" + host + "]\n  gateways: [front]\n" +
			"  http: [{route: [{destination: {host: " + name + "}}]}]\n---\n")
	}
	return b.String()
}

// asked is the answer to one request for a host.
func (a *alonely) asked(host, path string) *http.Response {
	a.t.Helper()
	req, err := http.NewRequest("GET", "http://"+a.address+path, nil)
	require.NoError(a.t, err)
	req.Host = host
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(a.t, err)
	require.NoError(a.t, resp.Body.Close())
	return resp
}

// A server redirects who asks for its hosts, and nobody else.
func TestAloneRedirectsTheHostsOfTheServer(t *testing.T) {
	t.Parallel()
	front := newAlone(t, gatewayOf("{port: {number: 80, name: http, protocol: HTTP}, hosts: [www.example.com, '*.shop.example.com'], tls: {httpsRedirect: true}}", "www.example.com")+
		served("www", saying(t, "hello")))
	for host, want := range map[string]string{
		"www.example.com": "https://www.example.com/a?b=c", "WWW.example.com:80": "https://WWW.example.com/a?b=c", "a.shop.example.com": "https://a.shop.example.com/a?b=c",
		"other": "", "example.com": "", "shop.example.com": "",
	} {
		resp := front.asked(host, "/a?b=c")
		if want == "" {
			require.Equal(t, http.StatusNotFound, resp.StatusCode, host)
			require.Empty(t, resp.Header.Get("location"), host)
			continue
		}
		require.Equal(t, http.StatusMovedPermanently, resp.StatusCode, host)
		require.Equal(t, want, resp.Header.Get("location"), host)
	}
}
