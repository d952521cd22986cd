package spec_test

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/spec"
)

const shop = `apiVersion: meshtest.dev/v1
kind: Scenario
metadata: {name: shop}
services: {web: {port: 8080, versions: {v1: {run: {fixture: chain}}}}}
load: [{name: users, target: web, rate: 1/s, duration: 1s}]
`

func TestOutboundTrafficPolicy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": spec.RegistryOnly, "outboundTrafficPolicy: {}": spec.RegistryOnly, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}": spec.RegistryOnly, "outboundTrafficPolicy: {mode: ALLOW_ANY}": spec.AllowAny,
	} {
		s, diags := spec.Parse("shop.yaml", []byte(shop+text), spec.Options{})
		require.Empty(t, diags, text)
		require.Equal(t, want, s.OutboundTrafficPolicy.Mode, text)
	}
	_, diags := spec.Parse("shop.yaml", []byte(shop+"outboundTrafficPolicy: {mode: DENY}"), spec.Options{})
	require.Len(t, diags, 1)
	require.Equal(t, "outboundTrafficPolicy.mode", diags[0].Path)
}

// Rules name files of the scenario's folder, and no others are read.
func TestFilesOfRules(t *testing.T) {
	t.Parallel()
	const gateway = `rules:
  - apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: {name: front}
    spec:
      servers:
        - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: MUTUAL, serverCertificate: tls/web.crt, privateKey: ./tls/web.key, caCertificates: ../ca.pem}}
  - file: more.yaml
`
	folder := fstest.MapFS{
		"a/shop.yaml":   {Data: []byte(shop + gateway)},
		"a/more.yaml":   {Data: []byte("a: &a {clientCertificate: client.crt}\nb: [*a, {clientCertificate: [x]}]\n---\nserverCertificate: none.crt\n")},
		"a/tls/web.crt": {Data: []byte("chain")}, "a/tls/web.key": {Data: []byte("key")}, "a/client.crt": {Data: []byte("client")}, "ca.pem": {Data: []byte("outside")},
	}
	s, diags := spec.LoadFS(folder, "a/shop.yaml", spec.Options{})
	require.Empty(t, diags)
	require.Equal(t, map[string][]byte{"tls/web.crt": []byte("chain"), "./tls/web.key": []byte("key"), "client.crt": []byte("client")}, s.Files)
}
