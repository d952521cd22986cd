package gatewayapi_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
)

// rule is an HTTPRoute for the Service echo with one rule, which begins in line 7, column 6.
func rule(text string) string { return forEcho("r", "  rules:\n  - "+text) }

const backend = ", backendRefs: [{name: echo, port: 80}]"

func TestProblemsAreAtTheirPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, docs string
		want       string // code, line:column, path
		message    string // a part of it
	}{
		{"no mapping", "---\nfoo\n", "MT1601 2:1 ", "must be a document of the Gateway API"},
		{"another API", "apiVersion: networking.istio.io/v1\nkind: Gateway\n", "MT1601 1:13 apiVersion", "not an API that is known here"},
		{"another version", "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: GRPCRoute\n", "MT1601 1:13 apiVersion", `GRPCRoute has no version "v1alpha2"`},
		{"another kind", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRuote\n", "MT1601 2:7 kind", `unknown kind "HTTPRuote"`},
		{"a kind that is not honoured", "apiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\n", "MT1603 2:7 kind", "TLSRoute is not honoured yet"},
		{"a field of the document", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspecs: {}\nspec: {parentRefs: [{group: '', kind: Service, name: echo}]}\n", "MT1602 4:1 specs", `unknown field "specs"`},
		{"no spec", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\n", "MT1607 1:1 ", `"spec" is missing`},
		{"no name", document("HTTPRoute", "", "  parentRefs: [{group: '', kind: Service, name: echo}]\n  rules: [{backendRefs: [{name: echo, port: 80}]}]"), "MT1607 4:11 metadata", `"name" is missing`},
		{"a field of metadata", document("HTTPRoute", "a, nmae: b", "  parentRefs: [{group: '', kind: Service, name: echo}]"), "MT1602 4:21 metadata.nmae", "unknown field"},
		{"no time", document("HTTPRoute", "a, creationTimestamp: yesterday", "  parentRefs: [{group: '', kind: Service, name: echo}]"), "MT1604 4:40 metadata.creationTimestamp", "must be a time"},
		{"twice", rule("backendRefs: [{name: echo, port: 80}]") + rule("backendRefs: [{name: echo, port: 80}]"), "MT1606 12:18 metadata.name", "there is another HTTPRoute infra/r"},
		{"no parents", document("HTTPRoute", "a", "  rules: [{backendRefs: [{name: echo, port: 80}]}]"), "MT1607 6:3 spec", "has no parent"},
		{"a parent twice", document("HTTPRoute", "a", "  parentRefs: [{group: '', kind: Service, name: echo}, {group: '', kind: Service, name: echo, namespace: infra}]\n  rules: [{backendRefs: [{name: echo, port: 80}]}]"),
			"MT1606 6:56 spec.parentRefs[1]", "parentRefs[0] names the same parent"},
		{"a parent without its group", document("HTTPRoute", "a", "  parentRefs: [{kind: Service, name: echo}]"), "MT1603 6:16 spec.parentRefs[0]", "a parent of the kind Service in the group"},
		{"no such Gateway", forEdge("a", "  rules: [{backendRefs: [{name: echo, port: 80}]}]"), "MT1605 6:23 spec.parentRefs[0].name", "no such gateway: infra/edge"},
		{"hostnames at a Service", forEcho("a", "  hostnames: [a.com]\n  rules: [{backendRefs: [{name: echo, port: 80}]}]"), "MT1603 7:14 spec.hostnames", "say nothing to a Service"},
		{"no host", forEcho("a", "  hostnames: ['*.*.com']"), "MT1607 7:15 spec.hostnames[0]", `"*.*.com" is not a host`},
		{"an address", forEcho("a", "  hostnames: [10.0.0.1]"), "MT1607 7:15 spec.hostnames[0]", `"10.0.0.1" is not a host`},
		{"an unknown field", rule("{filter: []" + backend + "}"), "MT1602 8:6 spec.rules[0].filter", `unknown field "filter"`},
		{"a field twice", rule("{name: a, name: b" + backend + "}"), "MT1606 8:15 spec.rules[0].name", `"name" is there twice`},
		{"a name twice", forEcho("a", "  rules: [{name: a"+backend+"}, {name: a"+backend+"}]"), "MT1606 7:68 spec.rules[1].name", `another rule named "a"`},
		{"not honoured", rule("{sessionPersistence: {type: Cookie}" + backend + "}"), "MT1603 8:6 spec.rules[0].sessionPersistence", "is not honoured yet"},
		{"default gateways", forEcho("a", "  useDefaultGateways: All\n  rules: [{backendRefs: [{name: echo, port: 80}]}]"), "MT1603 7:3 spec.useDefaultGateways", "is not honoured yet"},
		{"no list", rule("{matches: {path: {value: /}}" + backend + "}"), "MT1604 8:15 spec.rules[0].matches", "must be a list, not a mapping"},
		{"no mapping inside", rule("{matches: [/a]" + backend + "}"), "MT1604 8:16 spec.rules[0].matches[0]", `must be a mapping, not "/a"`},
		{"no rules", forEcho("a", "  rules: []"), "MT1607 7:10 spec.rules", "must have 1 to 16 elements"},
		{"too many rules", forEcho("a", "  rules: ["+strings.Repeat("{}, ", 17)+"]"), "MT1607 7:10 spec.rules", "must have 1 to 16 elements, not 17"},
		{"too many matches", forEcho("a", "  rules: ["+strings.Repeat("{matches: ["+strings.Repeat("{}, ", 60)+"]}, ", 3)+"]"), "MT1607 7:10 spec.rules", "180 matches, and may have 128"},
		{"a word", rule("{matches: [{path: {type: Perfix, value: /a}}]" + backend + "}"), "MT1604 8:30 spec.rules[0].matches[0].path.type", "must be one of Exact, PathPrefix, RegularExpression"},
		{"a method", rule("{matches: [{method: get}]" + backend + "}"), "MT1604 8:25 spec.rules[0].matches[0].method", "must be one of GET"},
		{"no text", rule("{matches: [{headers: [{name: x, value: 1}]}]" + backend + "}"), "MT1604 8:44 spec.rules[0].matches[0].headers[0].value", `must be text, not "1"`},
		{"no value", rule("{matches: [{headers: [{name: x}]}]" + backend + "}"), "MT1607 8:27 spec.rules[0].matches[0].headers[0]", `"value" is missing`},
		{"no header", rule("{matches: [{headers: [{name: 'x y', value: a}]}]" + backend + "}"), "MT1607 8:34 spec.rules[0].matches[0].headers[0].name", `"x y" is not a name`},
		{"no path", rule("{matches: [{path: {value: a}}]" + backend + "}"), "MT1607 8:31 spec.rules[0].matches[0].path.value", "does not begin with a slash"},
		{"a path with two slashes", rule("{matches: [{path: {type: Exact, value: /a//b}}]" + backend + "}"), "MT1607 8:44 spec.rules[0].matches[0].path.value", "contains //"},
		{"a path with dots", rule("{matches: [{path: {value: /a/..}}]" + backend + "}"), "MT1607 8:31 spec.rules[0].matches[0].path.value", "ends with /. or /.."},
		{"a path with a space", rule("{matches: [{path: {value: /a b}}]" + backend + "}"), "MT1607 8:31 spec.rules[0].matches[0].path.value", "characters that no path has"},
		{"no expression", rule("{matches: [{path: {type: RegularExpression, value: '/(a'}}]" + backend + "}"), "MT1604 8:56 spec.rules[0].matches[0].path.value", "missing closing )"},
		{"no duration", rule("{timeouts: {request: 10}" + backend + "}"), "MT1604 8:26 spec.rules[0].timeouts.request", "must be a duration"},
		{"a duration only Go knows", rule("{timeouts: {request: 1.5s}" + backend + "}"), "MT1604 8:26 spec.rules[0].timeouts.request", "must be a duration"},
		{"a timeout longer than the whole", rule("{timeouts: {request: 1s, backendRequest: 2s}" + backend + "}"), "MT1607 8:46 spec.rules[0].timeouts.backendRequest", "is longer than that of the whole"},
		{"a code", rule("{retry: {codes: [503, 200]}" + backend + "}"), "MT1607 8:27 spec.rules[0].retry.codes[1]", "200 is not a status from 400 to 599"},
		{"attempts", rule("{retry: {attempts: 0}" + backend + "}"), "MT1607 8:24 spec.rules[0].retry.attempts", "must be 1 to"},
		{"a weight", rule("{backendRefs: [{name: echo, port: 80, weight: -1}]}"), "MT1607 8:51 spec.rules[0].backendRefs[0].weight", "must be 0 to 1000000, not -1"},
		{"a port", rule("{backendRefs: [{name: echo, port: 0}]}"), "MT1607 8:39 spec.rules[0].backendRefs[0].port", "must be 1 to 65535"},
		{"no such service", rule("{backendRefs: [{name: ehco, port: 80}]}"), "MT1605 8:27 spec.rules[0].backendRefs[0].name", "no such service: ehco.infra.svc.cluster.local"},
		{"a filter of nobody", rule("{filters: [{type: Magic}]" + backend + "}"), "MT1604 8:23 spec.rules[0].filters[0].type", "must be one of RequestHeaderModifier"},
		{"a filter that is not honoured", rule("{filters: [{type: ExtensionRef, extensionRef: {group: a.com, kind: A, name: a}}]" + backend + "}"), "MT1603 8:37 spec.rules[0].filters[0].extensionRef", "is not honoured yet"},
		{"a filter without its field", rule("{filters: [{type: CORS}]" + backend + "}"), "MT1607 8:16 spec.rules[0].filters[0]", `"cors" is missing`},
		{"a filter with another's field", rule("{filters: [{type: CORS, cors: {}, urlRewrite: {}}]" + backend + "}"), "MT1607 8:51 spec.rules[0].filters[0].urlRewrite", "is not for a filter of the type CORS"},
		{"a filter twice", rule("{filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]" + backend + "}"), "MT1607 8:40 spec.rules[0].filters[1]", "there is another filter CORS (0)"},
		{"redirect and rewrite", rule("{filters: [{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}]}"), "MT1607 8:15 spec.rules[0].filters", "cannot both be there"},
		{"redirect and backends", rule("{filters: [{type: RequestRedirect, requestRedirect: {}}]" + backend + "}"), "MT1607 8:76 spec.rules[0].backendRefs", "has no backends"},
		{"a status", rule("{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}"), "MT1604 8:70 spec.rules[0].filters[0].requestRedirect.statusCode", "must be one of 301"},
		{"a prefix of what is exact", rule("{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]" + backend + "}"),
			"MT1607 8:15 spec.rules[0].matches", "needs exactly one match, of a PathPrefix"},
		{"a prefix of several", rule("{matches: [{path: {value: /a}}, {path: {value: /b}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}"),
			"MT1607 8:15 spec.rules[0].matches", "needs exactly one match, of a PathPrefix"},
		{"the wrong replacement", rule("{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replacePrefixMatch: /b}}}]" + backend + "}"),
			"MT1607 8:54 spec.rules[0].filters[0].urlRewrite.path", "needs replaceFullPath"},
		{"a replacement with more than a path", rule("{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: \"/b HTTP/1.1\\r\\nX: y\"}}}]" + backend + "}"),
			"MT1607 8:95 spec.rules[0].filters[0].urlRewrite.path.replaceFullPath", "is not a path"},
		{"a value with more than a value", rule("{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: \"a\\nb\"}]}}]" + backend + "}"),
			"MT1607 8:93 spec.rules[0].filters[0].requestHeaderModifier.set[0].value", "is not the value of a header"},
		{"a header changed twice", rule("{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: a}], remove: [X]}}]" + backend + "}"),
			"MT1607 8:107 spec.rules[0].filters[0].requestHeaderModifier.remove[0]", "X is changed already"},
		{"the header Host", rule("{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a}]}}]" + backend + "}"),
			"MT1603 8:83 spec.rules[0].filters[0].requestHeaderModifier.set[0].name", "is not honoured"},
		{"an origin", rule("{filters: [{type: CORS, cors: {allowOrigins: [example.com]}}]" + backend + "}"), "MT1607 8:51 spec.rules[0].filters[0].cors.allowOrigins[0]", "is not an origin"},
		{"a star beside others", rule("{filters: [{type: CORS, cors: {allowOrigins: ['*', 'http://a.com']}}]" + backend + "}"), "MT1607 8:50 spec.rules[0].filters[0].cors.allowOrigins", "* stands alone"},
		{"percent and fraction", rule("{filters: [{type: RequestMirror, requestMirror: {percent: 1, fraction: {numerator: 1}, backendRef: {name: echo, port: 80}}}]" + backend + "}"),
			"MT1607 8:53 spec.rules[0].filters[0].requestMirror", "cannot both be set"},
		{"more than all", rule("{filters: [{type: RequestMirror, requestMirror: {fraction: {numerator: 101}, backendRef: {name: echo, port: 80}}}]" + backend + "}"),
			"MT1607 8:64 spec.rules[0].filters[0].requestMirror.fraction", "the numerator is larger"},
		{"no gRPC service", document("GRPCRoute", "a", "  parentRefs: [{group: '', kind: Service, name: echo}]\n  rules: [{matches: [{method: {service: a/b}}]"+backend+"}]"),
			"MT1607 7:41 spec.rules[0].matches[0].method.service", `"a/b" is not a service`},
		{"neither service nor method", document("GRPCRoute", "a", "  parentRefs: [{group: '', kind: Service, name: echo}]\n  rules: [{matches: [{method: {}}]"+backend+"}]"),
			"MT1607 7:31 spec.rules[0].matches[0].method", "a service or a method is needed"},
		{"a filter that is not of gRPC", document("GRPCRoute", "a", "  parentRefs: [{group: '', kind: Service, name: echo}]\n  rules: [{filters: [{type: URLRewrite}]"+backend+"}]"),
			"MT1604 7:29 spec.rules[0].filters[0].type", "must be one of RequestHeaderModifier"},
		{"a listener without a port", gateway("{name: a, protocol: HTTP}"), "MT1607 7:15 spec.listeners[0]", `"port" is missing`},
		{"listeners of one name", gateway("{name: a, port: 80, protocol: HTTP}", "{name: a, port: 81, protocol: HTTP}"), "MT1606 7:59 spec.listeners[1].name", `another listener named "a"`},
		{"a listener's TLS", gateway("{name: a, port: 80, protocol: HTTP, tls: {}}"), "MT1603 7:51 spec.listeners[0].tls", "is not honoured yet"},
		{"no such section", gateway(plain) + document("HTTPRoute", "a", "  parentRefs: [{name: edge, sectionName: htpp}]"), "MT1605 13:16 spec.parentRefs[0]", "has no such listener"},
		{"a selector without labels", gateway("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}"), "MT1607 7:79 spec.listeners[0].allowedRoutes.namespaces", `"selector" is missing`},
		{"a grant without kinds", document("ReferenceGrant", "g", "  from: []\n  to: [{group: '', kind: Service}]"), "MT1607 6:9 spec.from", "must have 1 to 16 elements, not 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, problems := gatewayapi.Compile(documents(t, c.docs), known(), "infra")
			require.NotEmpty(t, problems)
			p := problems[0]
			require.Equal(t, c.want, strings.TrimRight(p.Code+" "+strings.TrimPrefix(strings.SplitN(p.Error(), ": ", 2)[0], "rules.yaml:"), " ")+" "+p.Path, p.Error())
			require.Contains(t, p.Message, c.message)
			require.Len(t, problems, 1, "%v", problems)
		})
	}
}

func TestNearestWords(t *testing.T) {
	t.Parallel()
	for docs, word := range map[string]string{
		rule("{filter: []" + backend + "}"): "filter", rule("{backendRefs: [{name: ehco, port: 80}]}"): "ehco",
		rule("{matches: [{path: {type: Perfix, value: /a}}]" + backend + "}"):                    "Perfix",
		gateway(plain) + document("HTTPRoute", "a", "  parentRefs: [{name: edeg}]\n"):            "edeg",
		gateway(plain) + forEdge("a", "") + strings.ReplaceAll(gateway(plain), "way\n", "wya\n"): "Gatewya",
	} {
		_, problems := gatewayapi.Compile(documents(t, docs), known(), "infra")
		require.NotEmpty(t, problems)
		last := problems[len(problems)-1]
		require.Equal(t, word, last.Word)
		require.NotEmpty(t, last.Known)
	}
	_, problems := gatewayapi.Compile(documents(t, rule("{filter: []"+backend+"}")), known(), "infra")
	require.NotContains(t, problems[0].Known, "sessionPersistence", "what is not honoured is no suggestion")
	require.Contains(t, problems[0].Known, "filters")
}

// What is malformed is dropped by itself, and the rest goes on: unless that were to let requests go without a filter.
func TestWhatIsWrongDoesNotTakeTheRestAlong(t *testing.T) {
	t.Parallel()
	docs := forEcho("r", `
  rules:
  - {name: good, matches: [{path: {value: /a}}], backendRefs: [{name: echo-v1, port: 80}]}
  - {name: bad, matches: [{path: {value: a}}], backendRefs: [{name: echo-v2, port: 80}]}
  - {name: unfiltered, matches: [{path: {value: /b}}], filters: [{type: ExtensionRef, extensionRef: {group: a.com, kind: A, name: a}}], backendRefs: [{name: echo-v3, port: 80}]}
  - {name: unpersistent, matches: [{path: {value: /c}}], sessionPersistence: {}, backendRefs: [{name: echo-v3, port: 80}]}
`)
	rules, problems := gatewayapi.Compile(documents(t, docs), known(), "infra")
	require.Len(t, problems, 3)
	steps(t, table(t, rules, mesh.FQDN("echo", "infra"), 80), []step{
		{request{path: "/a"}, "echo-v1"}, {request{path: "/b"}, "500"}, {request{path: "/c"}, "echo-v3"}, {request{path: "/"}, "404"},
	})
	conditions := statusOf(t, rules, "HTTPRoute", "r").Parents[0].Conditions
	require.True(t, condition(t, conditions, "Accepted").True)
	partial := condition(t, conditions, "PartiallyInvalid")
	require.True(t, partial.True)
	require.Equal(t, "UnsupportedValue", partial.Reason)
	require.True(t, strings.HasPrefix(partial.Message, "Dropped Rule bad: "), partial.Message)

	for reason, docs := range map[string]string{
		"UnsupportedValue":    forEcho("r", "  rules: [{matches: [{path: {value: a}}]"+backend+"}]"),
		"IncompatibleFilters": rule("{filters: [{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}]}"),
	} {
		rules, _ := gatewayapi.Compile(documents(t, docs), known(), "infra")
		require.Empty(t, rules.Routes)
		conditions := statusOf(t, rules, "HTTPRoute", "r").Parents[0].Conditions
		require.Len(t, conditions, 2, "a route of which nothing is left is not partially invalid")
		require.Equal(t, reason, condition(t, conditions, "Accepted").Reason)
	}
	// Without its hostnames a route would take requests for all hosts.
	rules, _ = gatewayapi.Compile(documents(t, gateway(plain)+forEdge("r", "  hostnames: [A_B]\n"+toV("/", "v1"))), known(), "infra")
	require.Empty(t, edgeTable(t, rules, 80).Routes)
}
