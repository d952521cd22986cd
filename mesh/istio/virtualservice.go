package istio

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// gatewayMesh is the reserved gateway of all sidecars.
const gatewayMesh = "mesh"

// virtualService compiles the routes of one document for the sidecars, for gateways, or for both.
func (c *compiler) virtualService(o *object, spec *networking.VirtualService) {
	o.gateways = c.references(o, spec.GetGateways())
	if len(spec.GetHosts()) == 0 {
		o.problem(CodeInvalid, join(o.path, "hosts"), "", "at least one host is needed")
	}
	if len(spec.GetHttp()) == 0 {
		o.problem(CodeInvalid, join(o.path, "http"), "", "at least one http route is needed")
	}
	names := map[string]bool{}
	for i, r := range spec.GetHttp() {
		path := index(join(o.path, "http"), i)
		if name := routeName(o, r, i); names[name] {
			o.problem(CodeConflict, join(path, "name"), "evidence and chance are keyed by the name", "there is another route named %q", name)
		} else {
			names[name] = true
		}
	}
	o.checkGateways(spec)
	if _, ok := o.gateways[gatewayMesh]; ok {
		c.forSidecars(o, spec)
	}
	for _, key := range slices.Sorted(maps.Keys(o.gateways)) {
		if g := o.gateways[key]; g != nil {
			c.bind(o, spec, g)
		}
	}
}

// checkGateways reports what could never act: a match for a gateway that its document is not for, and a gateway that no route is for.
func (o *object) checkGateways(spec *networking.VirtualService) {
	for i, r := range spec.GetHttp() {
		for j, m := range r.GetMatch() {
			for k, name := range m.GetGateways() {
				if _, ok := o.gateways[o.gatewayKey(name)]; !ok {
					at := index(join(index(join(index(join(o.path, "http"), i), "match"), j), "gateways"), k)
					o.problem(CodeInvalid, at, "add it to spec.gateways", "%s is not among the gateways of the document", name)
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.gateways)) {
		some := func(r *networking.HTTPRoute) bool { return o.serves(r, key) }
		if len(spec.GetHttp()) > 0 && !slices.ContainsFunc(spec.GetHttp(), some) {
			o.problem(CodeInvalid, join(o.path, "http"), "", "none of the routes is for the gateway %s", key)
		}
	}
}

// forSidecars makes one route table for each port of each host.
func (c *compiler) forSidecars(o *object, spec *networking.VirtualService) {
	for i, name := range spec.GetHosts() {
		path := index(join(o.path, "hosts"), i)
		svc := c.host(o, path, name)
		if svc == nil || !c.claim(o, path, svc.Host) {
			continue
		}
		for _, port := range svc.Ports {
			if port.Protocol != mesh.HTTP {
				o.problem(CodeInvalid, path, "", "port %d of %s speaks %s, and http routes need HTTP", port.Number, name, port.Protocol)
				continue
			}
			table := &mesh.RouteTable{Host: svc.Host, Port: port.Number}
			o.once(func() { table.Routes = c.routes(o, spec, place{gateway: gatewayMesh, port: port.Number}) })
			c.rules.Routes[mesh.HostPort(svc.Host, port.Number)] = table
		}
	}
}

// place is what routes are compiled for.
type place struct {
	gateway string   // its key; mesh for sidecars
	port    int      // of the table
	hosts   []string // that a gateway serves there; nil for sidecars
}

// routes compiles the routes of a document that are for a place.
func (c *compiler) routes(o *object, spec *networking.VirtualService, at place) []mesh.Route {
	var out []mesh.Route
	for i, r := range spec.GetHttp() {
		if compiled, ok := c.route(o, r, i, at); ok {
			out = append(out, compiled)
		}
	}
	return out
}

// once does something that may repeat what was done for another host, port or gateway, and keeps only those problems that are new.
func (o *object) once(do func()) {
	before := len(o.problems)
	do()
	o.problems = slices.Concat(o.problems[:before], newProblems(o.problems[:before], o.problems[before:]))
}

// newProblems are those of the later problems that are not among the earlier ones.
func newProblems(earlier, later []Problem) []Problem {
	return slices.DeleteFunc(slices.Clone(later), func(p Problem) bool {
		return slices.ContainsFunc(earlier, func(q Problem) bool { return p.Path == q.Path && p.Message == q.Message })
	})
}

// routeName is the route's own name, or one made of the document's name and the route's place in it, which no edit of weights changes.
func routeName(o *object, r *networking.HTTPRoute, i int) string {
	return cmp.Or(r.GetName(), o.name+"-"+strconv.Itoa(i))
}

// isFor reports whether a match is for a gateway of its document: one that it names, or any when it names none.
func (o *object) isFor(m *networking.HTTPMatchRequest, gateway string) bool {
	names := m.GetGateways()
	return len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return o.gatewayKey(name) == gateway })
}

// serves reports whether a route is for a gateway of its document.
func (o *object) serves(r *networking.HTTPRoute, gateway string) bool {
	return len(r.GetMatch()) == 0 || slices.ContainsFunc(r.GetMatch(), func(m *networking.HTTPMatchRequest) bool { return o.isFor(m, gateway) })
}

// route compiles one http route for a place. It is not ok when all its matches are for other places.
func (c *compiler) route(o *object, r *networking.HTTPRoute, i int, at place) (route mesh.Route, ok bool) {
	path := index(join(o.path, "http"), i)
	out := mesh.Route{
		Name:     routeName(o, r, i),
		Origin:   o.origin(),
		Matches:  o.matches(join(path, "match"), r.GetMatch(), at),
		Request:  o.headerChange(join(path, "headers.request"), r.GetHeaders().GetRequest()),
		Response: o.headerChange(join(path, "headers.response"), r.GetHeaders().GetResponse()),
	}
	ok = len(out.Matches) > 0 || len(r.GetMatch()) == 0
	actions := 0
	if len(r.GetRoute()) > 0 {
		actions++
		out.Split = c.split(o, join(path, "route"), r.GetRoute(), at.port)
		out.Retry = o.retry(join(path, "retries"), r.GetRetries())
	}
	if r.GetRedirect() != nil {
		actions++
		out.Redirect = o.redirect(join(path, "redirect"), r.GetRedirect())
	}
	if r.GetDirectResponse() != nil {
		actions++
		out.Direct = o.direct(join(path, "directResponse"), r.GetDirectResponse())
	}
	if actions != 1 && !o.hasProblem(path) {
		o.problem(CodeInvalid, path, "", "exactly one of route, redirect and directResponse is needed, not %d", actions)
	}
	if len(r.GetRoute()) == 0 && (r.GetRewrite() != nil || r.GetRetries() != nil || r.GetTimeout() != nil) {
		o.problem(CodeInvalid, path, "", "rewrite, retries and timeout need a route")
	}
	if t := r.GetTimeout(); t != nil && t.AsDuration() != 0 { // 0s switches the timeout off, as in Istio
		out.Timeout = o.atLeast1ms(join(path, "timeout"), t.AsDuration())
	}
	if rw := r.GetRewrite(); rw != nil {
		o.rewrite(join(path, "rewrite"), rw, &out)
	}
	return out, ok
}

// hasProblem reports whether there is a problem at or below a path.
func (o *object) hasProblem(path string) bool {
	return slices.ContainsFunc(o.problems, func(p Problem) bool { return strings.HasPrefix(p.Path, path) })
}

// split compiles the destinations of a route. A single weight of 0 means all; otherwise weights are relative to their sum.
func (c *compiler) split(o *object, path string, arms []*networking.HTTPRouteDestination, port int) []mesh.Destination {
	var out []mesh.Destination
	var sum uint64
	for i, a := range arms {
		at := index(path, i)
		if a.GetDestination() == nil {
			if !o.hasProblem(at) {
				o.problem(CodeInvalid, at, "", "the field %q is missing", "destination")
			}
			continue
		}
		d := c.destination(o, join(at, "destination"), a.GetDestination(), port)
		d.Request = o.headerChange(join(at, "headers.request"), a.GetHeaders().GetRequest())
		d.Response = o.headerChange(join(at, "headers.response"), a.GetHeaders().GetResponse())
		switch w := a.GetWeight(); {
		case w < 0:
			o.problem(CodeInvalid, join(at, "weight"), "", "a weight is not negative")
		case w == 0 && len(arms) == 1:
			d.Weight = 100
		default:
			d.Weight = uint32(w)
		}
		sum += uint64(d.Weight)
		out = append(out, d)
	}
	if sum == 0 && !o.hasProblem(path) {
		o.problem(CodeInvalid, path, "", "the weights add up to 0")
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
		o.problem(CodeReference, join(path, "port.number"), "", "%s has no port %d", mesh.LogicalName(svc.Host), number)
	case number != 0:
		out.Port = number
	case len(svc.Ports) == 1:
		out.Port = svc.Ports[0].Number
	case hasPort(port):
		out.Port = port
	default:
		o.problem(CodeInvalid, path, "such as port: {number: 8080}", "%s has several ports, and the destination must name one", mesh.LogicalName(svc.Host))
	}
	if out.Subset != "" && !slices.ContainsFunc(svc.Subsets, func(s mesh.Subset) bool { return s.Name == out.Subset }) {
		var known []string
		for _, s := range svc.Subsets {
			known = append(known, s.Name)
		}
		o.problem(CodeReference, join(path, "subset"), "define it in a DestinationRule", "%s has no subset %q", mesh.LogicalName(svc.Host), out.Subset)
		if len(known) > 0 {
			o.couldBe(out.Subset, known)
		}
	}
	return out
}

// matches compiles those matches of a route that can hold at a place.
func (o *object) matches(path string, matches []*networking.HTTPMatchRequest, where place) []mesh.Match {
	var out []mesh.Match
	for i, m := range matches {
		at := index(path, i)
		if p := m.GetPort(); p > 65535 {
			o.problem(CodeInvalid, join(at, "port"), "", "%d is not a port", p)
		}
		compiled := mesh.Match{
			Path:           o.stringMatch(join(at, "uri"), m.GetUri()),
			IgnorePathCase: m.GetIgnoreUriCase(),
			Method:         o.stringMatch(join(at, "method"), m.GetMethod()),
			Authority:      o.stringMatch(join(at, "authority"), m.GetAuthority()),
			Headers:        o.tests(join(at, "headers"), m.GetHeaders(), strings.ToLower),
			WithoutHeaders: o.tests(join(at, "withoutHeaders"), m.GetWithoutHeaders(), strings.ToLower),
			Query:          o.tests(join(at, "queryParams"), m.GetQueryParams(), func(s string) string { return s }),
			SourceLabels:   maps.Clone(mesh.Labels(m.GetSourceLabels())),
			Port:           int(m.GetPort()),
		}
		if o.isFor(m, where.gateway) && o.fits(join(at, "authority"), compiled.Authority, where.hosts) {
			out = append(out, compiled)
		}
	}
	return out
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
			o.problem(CodeType, join(path, "regex"), "RE2 syntax", "not a regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		return &mesh.StringMatch{Regex: &t.Regex}
	default:
		if !o.hasProblem(path) {
			o.problem(CodeInvalid, path, "", "one of exact, prefix and regex is needed")
		}
		return nil
	}
}

func (o *object) headerChange(path string, h *networking.Headers_HeaderOperations) mesh.HeaderChange {
	if h == nil {
		return mesh.HeaderChange{}
	}
	for _, set := range []map[string]string{h.GetSet(), h.GetAdd()} {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			if lower := strings.ToLower(name); lower == "host" || lower == ":authority" {
				o.problem(CodeNotHonoured, path, "use rewrite.authority", "changing %s by headers is not honoured", name)
			}
		}
	}
	return mesh.HeaderChange{Set: maps.Clone(h.GetSet()), Add: maps.Clone(h.GetAdd()), Remove: slices.Clone(h.GetRemove())}
}

func (o *object) redirect(path string, r *networking.HTTPRedirect) *mesh.Redirect {
	code := int(cmp.Or(r.GetRedirectCode(), 301))
	if !slices.Contains([]int{301, 302, 303, 307, 308}, code) {
		o.problem(CodeInvalid, join(path, "redirectCode"), "301, 302, 303, 307 or 308", "%d is not a redirect", code)
	}
	return &mesh.Redirect{Scheme: r.GetScheme(), Host: r.GetAuthority(), Port: int(r.GetPort()), Path: r.GetUri(), Code: code}
}

func (o *object) direct(path string, r *networking.HTTPDirectResponse) *mesh.DirectResponse {
	status := int(r.GetStatus())
	if status < 200 || status > 599 {
		o.problem(CodeInvalid, join(path, "status"), "", "the status must be 200 to 599")
	}
	body := r.GetBody().GetBytes()
	if s := r.GetBody().GetString_(); s != "" {
		body = []byte(s)
	}
	return &mesh.DirectResponse{Status: status, Body: body}
}

// rewrite sets the rewrite of a route. A path is rewritten by replacing what matched, so a match without a path matches the prefix /, as in Istio.
func (o *object) rewrite(path string, rw *networking.HTTPRewrite, route *mesh.Route) {
	route.Rewrite = &mesh.Rewrite{Path: rw.GetUri(), Authority: rw.GetAuthority()}
	if rw.GetUri() == "" {
		return
	}
	if len(route.Matches) == 0 {
		route.Matches = []mesh.Match{{}}
	}
	root := "/"
	for i, m := range route.Matches {
		switch {
		case m.Path == nil:
			route.Matches[i].Path = &mesh.StringMatch{Prefix: &root}
		case m.Path.Regex != nil:
			o.problem(CodeInvalid, join(path, "uri"), "", "a path that is matched by a regular expression cannot be rewritten")
		}
	}
}

// DefaultRetry is the retry policy of every route whose rules say nothing about retries, as in Istio: two more attempts. Of Istio's default conditions
// (connect-failure, refused-stream, unavailable, cancelled, retriable-status-codes without codes) only connect-failure can hold for HTTP/1.1.
func DefaultRetry() *mesh.Retry {
	return &mesh.Retry{Attempts: 2, On: []mesh.RetryOn{mesh.OnConnectFailure}}
}

// neverOnHTTP1 are conditions about HTTP/2 streams and gRPC statuses. The mesh carries HTTP/1.1, where they never hold, so they are taken and have no effect.
var neverOnHTTP1 = []string{"refused-stream", "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}

var retryConditions = []mesh.RetryOn{mesh.On5xx, mesh.OnGatewayError, mesh.OnReset, mesh.OnConnectFailure, mesh.OnRetriable4xx, mesh.OnRetriableStatus}

func (o *object) retry(path string, r *networking.HTTPRetry) *mesh.Retry {
	if r == nil {
		return DefaultRetry()
	}
	if r.GetAttempts() < 0 {
		o.problem(CodeInvalid, join(path, "attempts"), "", "attempts is not negative")
	}
	if r.GetAttempts() <= 0 {
		return nil
	}
	out := &mesh.Retry{Attempts: int(r.GetAttempts())}
	if r.GetPerTryTimeout() != nil {
		out.PerTryTimeout = o.atLeast1ms(join(path, "perTryTimeout"), r.GetPerTryTimeout().AsDuration())
	}
	if r.GetBackoff() != nil {
		out.BackoffBase = o.atLeast1ms(join(path, "backoff"), r.GetBackoff().AsDuration())
	}
	if strings.TrimSpace(r.GetRetryOn()) == "" {
		out.On = DefaultRetry().On
		return out
	}
	for _, word := range strings.Split(r.GetRetryOn(), ",") {
		word = strings.TrimSpace(word)
		status, err := strconv.Atoi(word)
		switch {
		case err == nil && status >= 100 && status <= 599:
			out.Statuses = append(out.Statuses, status)
		case slices.Contains(retryConditions, mesh.RetryOn(word)):
			out.On = append(out.On, mesh.RetryOn(word))
		case slices.Contains(neverOnHTTP1, word):
		default:
			o.problem(CodeNotHonoured, join(path, "retryOn"), fmt.Sprintf("known: %v and numbers of statuses", retryConditions),
				"the retry condition %q is not honoured yet", word)
		}
	}
	if len(out.Statuses) > 0 && !slices.Contains(out.On, mesh.OnRetriableStatus) {
		out.On = append(out.On, mesh.OnRetriableStatus)
	}
	return out
}
