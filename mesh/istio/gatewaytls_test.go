package istio_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/istio"
)

// certificate makes a certificate that signs itself, and its key, in PEM.
func certificate(t *testing.T) (chain, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"books.example.com"}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	rawKey, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey}))
}

// gatewayOf is a Gateway with servers in flow style on line 4.
func gatewayOf(servers string) string {
	return "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: front}\nspec: {servers: [" + servers + "]}\n"
}

// secretOf is a Secret.
func secretOf(t *testing.T, name, field string, texts map[string]string) string {
	t.Helper()
	values := map[string]string{}
	for k, v := range texts {
		if field == "data" {
			v = base64.StdEncoding.EncodeToString([]byte(v))
		}
		values[k] = v
	}
	flow, err := json.Marshal(values)
	require.NoError(t, err)
	return fmt.Sprintf("---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s}\ntype: kubernetes.io/tls\n%s: %s\n", name, field, flow)
}

// folder is the files of a scenario.
type folder map[string]string

func (f folder) read(name string) ([]byte, error) {
	text, ok := f[name]
	if !ok {
		return nil, fmt.Errorf("reading %s: %w", name, fs.ErrNotExist)
	}
	return []byte(text), nil
}

func portsOf(t *testing.T, text string, files folder) []mesh.Port {
	t.Helper()
	rules, problems := istio.Compile(documents(t, text), known(), mesh.DefaultNamespace, istio.Files(files.read))
	require.Empty(t, problems)
	return rules.Services[istio.GatewayHost("front", "default")].Ports
}

func TestGatewayOverTLS(t *testing.T) {
	t.Parallel()
	chain, key := certificate(t)
	roots, _ := certificate(t)
	files := folder{"tls/books.crt": chain, "tls/books.key": key, "ca.pem": roots}
	const https = "port: {number: 443, name: https, protocol: HTTPS}"
	port := func(p mesh.Protocol, server mesh.ServerTLS) []mesh.Port {
		return []mesh.Port{{Name: "https", Number: 443, Protocol: p, TLS: &server}}
	}
	shown := []mesh.Certificate{{Hosts: []string{"books.example.com", "*.shop.example.com"}, Chain: chain, PrivateKey: key}}

	byFiles := "serverCertificate: tls/books.crt, privateKey: tls/books.key"
	hosts := "hosts: [books.example.com, '*/*.shop.example.com']"
	require.Equal(t, port(mesh.HTTP, mesh.ServerTLS{Mode: mesh.SimpleTLS, Certificates: shown}),
		portsOf(t, gatewayOf("{"+https+", "+hosts+", tls: {mode: SIMPLE, "+byFiles+"}}"), files))
	require.Equal(t, port(mesh.HTTP, mesh.ServerTLS{Mode: mesh.MutualTLS, Certificates: shown, Roots: roots, MinVersion: tls.VersionTLS13}),
		portsOf(t, gatewayOf("{"+https+", "+hosts+", tls: {mode: MUTUAL, "+byFiles+", caCertificates: ca.pem, minProtocolVersion: TLSV1_3}}"), files))
	require.Equal(t, port(mesh.TLS, mesh.ServerTLS{Mode: mesh.Passthrough}), portsOf(t, gatewayOf("{"+https+", hosts: ['*'], tls: {mode: PASSTHROUGH}}"), nil))

	forAll := []mesh.Certificate{{Chain: chain, PrivateKey: key}}
	named := gatewayOf("{" + https + ", hosts: ['*'], tls: {mode: MUTUAL, credentialName: books}}")
	for _, field := range []string{"data", "stringData"} {
		require.Equal(t, port(mesh.HTTP, mesh.ServerTLS{Mode: mesh.MutualTLS, Certificates: forAll, Roots: roots}),
			portsOf(t, named+secretOf(t, "books", field, map[string]string{"tls.crt": chain, "tls.key": key, "ca.crt": roots}), nil))
	}
	require.Equal(t, port(mesh.HTTP, mesh.ServerTLS{Mode: mesh.MutualTLS, Certificates: forAll, Roots: roots}),
		portsOf(t, named+secretOf(t, "books", "data", map[string]string{"cert": chain, "key": key})+secretOf(t, "books-cacert", "data", map[string]string{"cacert": roots}), nil))
}

func TestGatewayProtocols(t *testing.T) {
	t.Parallel()
	chain, key := certificate(t)
	other, otherKey := certificate(t)
	text := gatewayOf(`{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com], tls: {httpsRedirect: true}},
  {port: {number: 81, name: grpc, protocol: GRPC}, hosts: ['*']}, {port: {number: 82, name: h2, protocol: HTTP2}, hosts: ['*']}, {port: {number: 83, name: db, protocol: TCP}, hosts: ['*']},
  {port: {number: 84, name: raw, protocol: TLS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: one}},
  {port: {number: 443, name: a, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: SIMPLE, credentialName: one}},
  {port: {number: 443, name: b, protocol: HTTPS}, hosts: [b.example.com], tls: {mode: SIMPLE, credentialName: two}}`) +
		secretOf(t, "one", "data", map[string]string{"tls.crt": chain, "tls.key": key}) + secretOf(t, "two", "data", map[string]string{"tls.crt": other, "tls.key": otherKey})
	one, two := mesh.Certificate{Chain: chain, PrivateKey: key}, mesh.Certificate{Chain: other, PrivateKey: otherKey, Hosts: []string{"b.example.com"}}
	oneOfA := one
	oneOfA.Hosts = []string{"a.example.com"}
	require.Equal(t, []mesh.Port{
		{Name: "http", Number: 80, Protocol: mesh.HTTP},
		{Name: "grpc", Number: 81, Protocol: mesh.GRPC}, {Name: "h2", Number: 82, Protocol: mesh.HTTP2}, {Name: "db", Number: 83, Protocol: mesh.TCP},
		{Name: "raw", Number: 84, Protocol: mesh.TCP, TLS: &mesh.ServerTLS{Mode: mesh.SimpleTLS, Certificates: []mesh.Certificate{one}}},
		{Name: "a", Number: 443, Protocol: mesh.HTTP, TLS: &mesh.ServerTLS{Mode: mesh.SimpleTLS, Certificates: []mesh.Certificate{oneOfA, two}}},
	}, portsOf(t, text, nil))
}

// The redirect is for the hosts of the servers that say so, and their whole port; what VirtualServices say of them there is for nothing.
func TestRedirectsToHTTPS(t *testing.T) {
	t.Parallel()
	const server = "port: {number: 80, name: http, protocol: HTTP}, tls: {httpsRedirect: true}, hosts: "
	routed := `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [www.shop.example.com]
  gateways: [front]
  http: [{route: [{destination: {host: reviews}}]}]
`
	for hosts, want := range map[string][]mesh.Match{
		"[www.example.com, 'other/*.shop.example.com', Www.Example.com]": {{Hosts: []string{"*.shop.example.com", "www.example.com"}}},
		"['*', '*.shop.example.com']":                                    nil,
	} {
		rules, problems := istio.Compile(documents(t, gatewayOf("{"+server+hosts+"}, {port: {number: 81, name: b, protocol: HTTP}, hosts: ['*']}")+routed), known(), mesh.DefaultNamespace)
		require.Empty(t, problems, hosts)
		front := istio.GatewayHost("front", "default")
		require.Equal(t, []mesh.Route{{
			Name: "https-redirect", Origin: "Gateway default/front", Matches: want, Redirect: &mesh.Redirect{Scheme: "https", Code: 301},
		}}, rules.Routes[mesh.HostPort(front, 80)].Routes, hosts)
		other := rules.Routes[mesh.HostPort(front, 81)].Routes
		require.Len(t, other, 1)
		require.Nil(t, other[0].Redirect, "another port is another matter")
	}
}

func TestProblemsOfTLS(t *testing.T) {
	t.Parallel()
	chain, key := certificate(t)
	other, _ := certificate(t)
	pair := secretOf(t, "pair", "data", map[string]string{"tls.crt": chain, "tls.key": key})
	https := func(tls string) string {
		return gatewayOf("{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {" + tls + "}}")
	}
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"no tls":           {gatewayOf("{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*']}"), []string{`MT1307 spec.servers[0]: the field "tls" is missing`}},
		"http with tls":    {gatewayOf("{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: pair}}") + pair, []string{`MT1307 spec.servers[0].tls: the protocol HTTP is without TLS`}},
		"redirected bytes": {gatewayOf("{port: {number: 80, name: a, protocol: TCP}, hosts: ['*'], tls: {httpsRedirect: true}}"), []string{`MT1307 spec.servers[0].tls.httpsRedirect: only requests of HTTP can be redirected`}},
		"redirected TLS":   {https("mode: SIMPLE, credentialName: pair, httpsRedirect: true") + pair, []string{`MT1307 spec.servers[0].tls.httpsRedirect: requests are over TLS already`}},
		"another mode":     {https("mode: ISTIO_MUTUAL"), []string{`MT1303 spec.servers[0].tls.mode: the mode ISTIO_MUTUAL is not honoured yet`}},
		"passed through":   {https("mode: PASSTHROUGH, credentialName: pair") + pair, []string{`MT1307 spec.servers[0].tls: with the mode PASSTHROUGH no certificate is shown`}},
		"no secret":        {https("mode: SIMPLE, credentialName: pear") + pair, []string{`MT1305 spec.servers[0].tls.credentialName: no such Secret: default/pear`}},
		"both":             {https("mode: SIMPLE, credentialName: pair, privateKey: a") + pair, []string{`MT1307 spec.servers[0].tls.credentialName: credentialName and files cannot both be set`}},
		"no file":          {https("mode: SIMPLE, serverCertificate: a, privateKey: b"), []string{`MT1305 spec.servers[0].tls.serverCertificate: reading a: file does not exist`, `MT1305 spec.servers[0].tls.privateKey: reading b: file does not exist`}},
		"no pair": {https("mode: SIMPLE, credentialName: pair") + secretOf(t, "pair", "data", map[string]string{"tls.crt": other, "tls.key": key}), []string{
			`MT1307 spec.servers[0].tls.credentialName: the certificate and its key cannot be used: private key does not match public key`}},
		"an empty secret": {https("mode: SIMPLE, credentialName: pair") + secretOf(t, "pair", "data", nil), []string{`MT1307 spec.servers[0].tls.credentialName: the Secret pair has no tls.crt and tls.key`}},
		"no roots":        {https("mode: MUTUAL, credentialName: pair") + pair, []string{`MT1307 spec.servers[0].tls.credentialName: neither the Secret pair nor pair-cacert has ca.crt`}},
		"bad roots":       {https("mode: MUTUAL, credentialName: pair") + pair + secretOf(t, "pair-cacert", "data", map[string]string{"ca.crt": "x"}), []string{`MT1307 spec.servers[0].tls.credentialName: there is no certificate among the roots of the callers`}},
		"another field":   {https("mode: SIMPLE, credentialName: pair, cipherSuites: []") + pair, []string{`MT1303 spec.servers[0].tls.cipherSuites: cipherSuites is not honoured yet`}},
		"two protocols": {gatewayOf("{port: {number: 80, name: a, protocol: HTTP}, hosts: [a.b]}, {port: {number: 80, name: b, protocol: TCP}, hosts: [b.c]}"), []string{
			`MT1306 spec.servers[1].port.protocol: another server speaks another protocol at port 80`}},
		"one redirects": {gatewayOf("{port: {number: 80, name: a, protocol: HTTP}, hosts: [a.b]}, {port: {number: 80, name: b, protocol: HTTP}, hosts: [b.c], tls: {httpsRedirect: true}}"), []string{
			`MT1303 spec.servers[1].tls.httpsRedirect: a redirect for some hosts of port 80 is not honoured yet`}},
		"two versions": {gatewayOf("{port: {number: 443, name: a, protocol: HTTPS}, hosts: [a.b], tls: {mode: SIMPLE, credentialName: pair}}, {port: {number: 443, name: b, protocol: HTTPS}, hosts: [b.c], tls: {mode: SIMPLE, credentialName: pair, minProtocolVersion: TLSV1_3}}") + pair, []string{
			`MT1303 spec.servers[1].tls: another mode, version or root of the callers than another server of port 443 has is not honoured yet`}},
		"a secret of another API": {https("mode: PASSTHROUGH") + "---\napiVersion: v2\nkind: Secret\nmetadata: {name: a}\n", []string{`MT1301 apiVersion: a Secret is of the API v1`}},
		"no base64":               {https("mode: PASSTHROUGH") + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {tls.crt: '---'}\nstringData: {a: 1}\ncolour: red\n", []string{`MT1302 colour: unknown field "colour"`, `MT1304 data.tls.crt: must be base64 text`, `MT1304 stringData.a: must be text`}},
		"two secrets":             {https("mode: PASSTHROUGH") + pair + pair, []string{`MT1306 metadata: there is another Secret default/pair (rules.yaml)`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := istio.Compile(documents(t, c.text), known(), mesh.DefaultNamespace, istio.Files(folder{}.read))
			var got []string
			for _, p := range problems {
				require.NotContains(t, p.Message+p.Hint, "PRIVATE")
				got = append(got, fmt.Sprintf("%s %s: %s", p.Code, p.Path, p.Message))
			}
			require.Equal(t, c.want, got)
		})
	}
}
