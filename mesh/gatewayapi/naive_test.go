package gatewayapi_test

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// request is a request as a table of the tests writes it.
type request struct {
	method  string // GET when empty
	host    string // the authority
	path    string // with the query
	headers map[string]string
	from    string // namespace of the caller
}

// naive finds the route of a request by trying one after the other, as the words of package mesh say and without any care for speed.
func naive(table *mesh.RouteTable, r request) *mesh.Route {
	for i := range table.Routes {
		route := &table.Routes[i]
		if len(route.Matches) == 0 || slices.ContainsFunc(route.Matches, r.satisfies) {
			return route
		}
	}
	return nil
}

func (r request) satisfies(m mesh.Match) bool {
	path, rawQuery, _ := strings.Cut(r.path, "?")
	query, _ := url.ParseQuery(rawQuery)
	method := r.method
	if method == "" {
		method = "GET"
	}
	if !holds(m.Path, path) || !holds(m.Method, method) || !holds(m.Authority, r.host) || m.SourceNamespace != "" && m.SourceNamespace != r.from {
		return false
	}
	host, _, _ := strings.Cut(strings.ToLower(r.host), ":")
	if len(m.Hosts) > 0 && !slices.ContainsFunc(m.Hosts, func(h string) bool {
		suffix, wild := strings.CutPrefix(h, "*")
		return h == host || wild && len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}) {
		return false
	}
	for name, test := range m.Headers {
		var value string
		found := false
		for k, v := range r.headers {
			if strings.EqualFold(k, name) {
				value, found = v, true
			}
		}
		if !found || !holds(test.Value, value) {
			return false
		}
	}
	for name, test := range m.Query {
		values, found := query[name]
		if !found || !holds(test.Value, values[0]) {
			return false
		}
	}
	return true
}

func holds(m *mesh.StringMatch, value string) bool {
	switch {
	case m == nil:
		return true
	case m.Exact != nil:
		return value == *m.Exact
	case m.Prefix != nil:
		return strings.HasPrefix(value, *m.Prefix)
	case m.Regex != nil:
		return regexp.MustCompile(`\A(?:` + *m.Regex + `)\z`).MatchString(value)
	default:
		prefix := strings.TrimSuffix(*m.PathPrefix, "/")
		return value == prefix || strings.HasPrefix(value, prefix+"/")
	}
}

// newPath is the path with which a request goes on that took a route by its only match.
func newPath(r *mesh.Route, path string) string {
	full, prefix := "", ""
	switch {
	case r.Rewrite != nil:
		full, prefix = r.Rewrite.FullPath, r.Rewrite.Path
	case r.Redirect != nil:
		full, prefix = r.Redirect.Path, r.Redirect.PathPrefix
	}
	switch {
	case full != "":
		return full
	case prefix == "":
		return path
	}
	rest := strings.TrimPrefix(path, strings.TrimSuffix(*r.Matches[0].Path.PathPrefix, "/"))
	if out := strings.TrimSuffix(prefix, "/") + rest; out != "" {
		return out
	}
	return "/"
}
