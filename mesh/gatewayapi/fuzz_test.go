package gatewayapi_test

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
)

// Whatever a document says, it compiles to tables that can be used, the same ones each time, or to problems with a place.
func FuzzCompile(f *testing.F) {
	f.Add(gateway(plain, "{name: b, port: 80, protocol: HTTP, hostname: '*.a.com'}") + forEdge("r", "  hostnames: [x.a.com, '*.a.com']\n"+toV("/a", "v1")))
	for _, s := range scenarios {
		f.Add(forEcho("r", "  rules:"+s.rules))
	}
	f.Add(rule("{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: echo, port: 80}, fraction: {numerator: 1, denominator: 0}}}]" + backend + "}"))
	f.Add(rule("{filters: [{type: CORS, cors: {allowOrigins: ['https://*.a.com:1']}}, {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}]" + backend + "}"))
	f.Add(document("GRPCRoute", "r", "  parentRefs: [{group: '', kind: Service, name: echo}]\n  rules: [{matches: [{method: {type: RegularExpression, service: 'a.*'}}]"+backend+"}]"))
	f.Add(document("ReferenceGrant", "g", "  from: [&a {group: a, kind: b, namespace: c}, *a]\n  to: [{group: '', kind: Service}]"))
	f.Add("apiVersion: v1\nkind: Namespace\nmetadata: {name: web, labels: {a: b}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		var docs []gatewayapi.Document
		for dec := yaml.NewDecoder(bytes.NewReader([]byte(text))); len(docs) < 8; {
			var n yaml.Node
			if err := dec.Decode(&n); err != nil {
				if !errors.Is(err, io.EOF) {
					return
				}
				break
			}
			docs = append(docs, gatewayapi.Document{File: "rules.yaml", Node: n.Content[0]})
		}
		rules, problems := gatewayapi.Compile(docs, known(), "infra")
		for _, p := range problems {
			require.NotEmpty(t, p.Code)
			require.Positive(t, p.Line)
			require.Positive(t, p.Col)
			require.NotEmpty(t, p.Message)
		}
		for name, table := range rules.Routes {
			require.Equal(t, mesh.HostPort(table.Host, table.Port), name)
			names := map[string]bool{}
			for _, r := range table.Routes {
				require.False(t, names[r.Name], r.Name)
				names[r.Name] = true
				sound(t, rules, r)
			}
		}
		again, same := gatewayapi.Compile(docs, known(), "infra")
		require.Equal(t, rules, again)
		require.Equal(t, problems, same)
	})
}

// sound checks what a router would refuse.
func sound(t *testing.T, rules gatewayapi.Rules, r mesh.Route) {
	t.Helper()
	actions := 0
	for _, acts := range []bool{len(r.Split) > 0, r.Redirect != nil, r.Direct != nil} {
		if acts {
			actions++
		}
	}
	require.Equal(t, 1, actions)
	var sum uint64
	for _, d := range r.Split {
		sum += uint64(d.Weight)
		require.True(t, d.Refuse != 0 || rules.Services[d.Host] != nil)
	}
	require.True(t, len(r.Split) == 0 || sum > 0)
	for _, m := range r.Matches {
		tests := []*mesh.StringMatch{m.Path, m.Method, m.Authority}
		for _, h := range m.Headers {
			tests = append(tests, h.Value)
		}
		for _, q := range m.Query {
			tests = append(tests, q.Value)
		}
		for _, s := range tests {
			if s != nil && s.Regex != nil {
				require.NotNil(t, regexp.MustCompile(*s.Regex))
			}
		}
	}
	for _, m := range r.Mirrors {
		require.True(t, m.Share >= 0 && m.Share <= 1, "%v", m.Share)
		require.NotNil(t, rules.Services[m.Host])
	}
}
