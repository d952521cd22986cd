package istio

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// routeName is the route's own name, or one made of the document's name and the route's place in it, which no edit of weights changes.
func routeName(o *object, r *networking.HTTPRoute, i int) string {
	return cmp.Or(r.GetName(), o.name+"-"+strconv.Itoa(i))
}

// route compiles one http route for a place. It is not ok when none of its matches can hold there.
func (c *compiler) route(o *object, r *networking.HTTPRoute, i int, at place) (route mesh.Route, ok bool) {
	path := index(join(o.path, "http"), i)
	out := mesh.Route{
		Name:    routeName(o, r, i),
		Origin:  o.origin(),
		Matches: o.matches(join(path, "match"), r.GetMatch(), at),
		CORS:    o.cors(join(path, "corsPolicy"), r.GetCorsPolicy()),
	}
	out.Request, out.Rewrite = o.requestChange(join(path, "headers.request"), r.GetHeaders().GetRequest())
	out.Response = o.headerChange(join(path, "headers.response"), r.GetHeaders().GetResponse())
	ok = len(out.Matches) > 0 || len(r.GetMatch()) == 0
	c.action(o, path, r, at, &out)
	return out, ok
}

// action compiles what becomes of a route's requests.
func (c *compiler) action(o *object, path string, r *networking.HTTPRoute, at place, out *mesh.Route) {
	actions := 0
	if len(r.GetRoute()) > 0 {
		actions++
		out.Split = c.split(o, join(path, "route"), r.GetRoute(), at.port)
		out.Retry = o.retry(join(path, "retries"), r.GetRetries())
		out.Mirrors = c.mirrors(o, path, r, at.port)
	}
	if r.GetRedirect() != nil {
		actions++
		out.Redirect = o.redirect(join(path, "redirect"), r.GetRedirect(), out.Matches, at)
	}
	if r.GetDirectResponse() != nil {
		actions++
		out.Direct = o.direct(join(path, "directResponse"), r.GetDirectResponse())
	}
	if actions != 1 && !o.Has(path) {
		o.Problem(CodeInvalid, path, "", "exactly one of route, redirect and directResponse is needed, not %d", actions)
	}
	mirrored := r.GetMirror() != nil || len(r.GetMirrors()) > 0
	if len(r.GetRoute()) == 0 && (r.GetRewrite() != nil || r.GetRetries() != nil || r.GetTimeout() != nil || mirrored) {
		o.Problem(CodeInvalid, path, "", "rewrite, retries, timeout and mirrors need a route")
	}
	if t := r.GetTimeout(); t != nil && t.AsDuration() != 0 { // 0s switches the timeout off, as in Istio
		out.Timeout = o.atLeast1ms(join(path, "timeout"), t.AsDuration())
	}
	if rw := r.GetRewrite(); rw != nil {
		o.rewrite(join(path, "rewrite"), rw, out)
	}
}

// split compiles the destinations of an http route.
func (c *compiler) split(o *object, path string, arms []*networking.HTTPRouteDestination, port int) []mesh.Destination {
	return splitOf(c, o, path, arms, port, func(at string, a *networking.HTTPRouteDestination, d *mesh.Destination) {
		d.Request = o.headerChange(join(at, "headers.request"), a.GetHeaders().GetRequest())
		d.Response = o.headerChange(join(at, "headers.response"), a.GetHeaders().GetResponse())
	})
}

// weighted is a destination of any kind of route.
type weighted interface {
	GetDestination() *networking.Destination
	GetWeight() int32
}

// splitOf compiles the destinations of a route, and lets more be read of each. A single weight of 0 means all; otherwise weights are relative to their sum.
func splitOf[A weighted](c *compiler, o *object, path string, arms []A, port int, more func(at string, a A, d *mesh.Destination)) []mesh.Destination {
	var out []mesh.Destination
	var sum uint64
	for i, a := range arms {
		at := index(path, i)
		if a.GetDestination() == nil {
			if !o.Has(at) {
				o.Problem(CodeInvalid, at, "", "the field %q is missing", "destination")
			}
			continue
		}
		d := c.destination(o, join(at, "destination"), a.GetDestination(), port)
		more(at, a, &d)
		switch w := a.GetWeight(); {
		case w < 0:
			o.Problem(CodeInvalid, join(at, "weight"), "", "a weight is not negative")
		case w == 0 && len(arms) == 1:
			d.Weight = 100
		default:
			d.Weight = uint32(w)
		}
		sum += uint64(d.Weight)
		out = append(out, d)
	}
	if sum == 0 && !o.Has(path) {
		o.Problem(CodeInvalid, path, "", "the weights add up to 0")
	}
	return out
}

func (c *compiler) destination(o *object, path string, dest *networking.Destination, port int) mesh.Destination {
	svc := c.host(o, join(path, "host"), dest.GetHost())
	if svc == nil {
		return mesh.Destination{}
	}
	out := mesh.Destination{Host: svc.Host, Subset: dest.GetSubset()}
	hasPort := func(number int) bool {
		return slices.ContainsFunc(svc.Ports, func(p mesh.Port) bool { return p.Number == number })
	}
	switch number := int(dest.GetPort().GetNumber()); {
	case number != 0 && !hasPort(number):
		o.Problem(CodeReference, join(path, "port.number"), "", "%s has no port %d", mesh.LogicalName(svc.Host), number)
	case number != 0:
		out.Port = number
	case len(svc.Ports) == 1:
		out.Port = svc.Ports[0].Number
	case hasPort(port):
		out.Port = port
	default:
		o.Problem(CodeInvalid, path, "such as port: {number: 8080}", "%s has several ports, and the destination must name one", mesh.LogicalName(svc.Host))
	}
	if out.Subset != "" && !slices.ContainsFunc(svc.Subsets, func(s mesh.Subset) bool { return s.Name == out.Subset }) {
		var known []string
		for _, s := range svc.Subsets {
			known = append(known, s.Name)
		}
		o.Problem(CodeReference, join(path, "subset"), "define it in a DestinationRule", "%s has no subset %q", mesh.LogicalName(svc.Host), out.Subset)
		if len(known) > 0 {
			o.CouldBe(out.Subset, known)
		}
	}
	return out
}

// matches compiles those matches of a route that can hold at a place.
func (o *object) matches(path string, matches []*networking.HTTPMatchRequest, where place) []mesh.Match {
	var out []mesh.Match
	for i, m := range matches {
		at := index(path, i)
		o.port(join(at, "port"), m.GetPort())
		compiled := mesh.Match{
			Path:            o.stringMatch(join(at, "uri"), m.GetUri()),
			IgnorePathCase:  m.GetIgnoreUriCase(),
			Method:          o.stringMatch(join(at, "method"), m.GetMethod()),
			Authority:       o.stringMatch(join(at, "authority"), m.GetAuthority()),
			Headers:         o.tests(join(at, "headers"), m.GetHeaders(), strings.ToLower),
			WithoutHeaders:  o.tests(join(at, "withoutHeaders"), m.GetWithoutHeaders(), strings.ToLower),
			Query:           o.tests(join(at, "queryParams"), m.GetQueryParams(), func(s string) string { return s }),
			SourceLabels:    maps.Clone(mesh.Labels(m.GetSourceLabels())),
			SourceNamespace: m.GetSourceNamespace(),
			Port:            int(m.GetPort()),
		}
		scheme := o.stringMatch(join(at, "scheme"), m.GetScheme())
		if o.isFor(m, where.gateway) && scheme.Holds(where.scheme()) && where.serves(compiled.Authority) {
			out = append(out, compiled)
		}
	}
	return out
}

func (o *object) port(path string, port uint32) {
	if port > 65535 {
		o.Problem(CodeInvalid, path, "", "%d is not a port", port)
	}
}

// tests compiles tests by name; an empty one asks only that the name is there.
func (o *object) tests(path string, tests map[string]*networking.StringMatch, name func(string) string) map[string]mesh.HeaderTest {
	var out map[string]mesh.HeaderTest
	for _, key := range slices.Sorted(maps.Keys(tests)) {
		if out == nil {
			out = map[string]mesh.HeaderTest{}
		}
		test := mesh.HeaderTest{Present: true}
		if tests[key].GetMatchType() != nil {
			test = mesh.HeaderTest{Value: o.stringMatch(join(path, key), tests[key])}
		}
		out[name(key)] = test
	}
	return out
}

func (o *object) stringMatch(path string, m *networking.StringMatch) *mesh.StringMatch {
	if m == nil {
		return nil
	}
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return &mesh.StringMatch{Exact: &t.Exact}
	case *networking.StringMatch_Prefix:
		return &mesh.StringMatch{Prefix: &t.Prefix}
	case *networking.StringMatch_Regex:
		if _, err := regexp.Compile(t.Regex); err != nil {
			o.Problem(CodeType, join(path, "regex"), "RE2 syntax", "not a regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		return &mesh.StringMatch{Regex: &t.Regex}
	default:
		if !o.Has(path) {
			o.Problem(CodeInvalid, path, "", "one of exact, prefix and regex is needed")
		}
		return nil
	}
}
