package gatewayapi

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

const (
	kindHTTP = "HTTPRoute"
	kindGRPC = "GRPCRoute"
)

// maxMatches is how many matches all rules of a route may have together.
const maxMatches = 128

// hard are the codes of problems that leave no meaning to what they are about, unlike a field that is not honoured or something that is not there.
var hard = []string{CodeUnknown, CodeType, CodeConflict, CodeInvalid}

// route is an HTTPRoute or a GRPCRoute.
type route struct {
	*object
	hostnames []string
	rules     []*rule
	refs      []parentRef
	parents   []*parent
	fault     fault // why no parent takes it
}

// parent is one parentRef of a route whose parent is there.
type parent struct {
	ref      parentRef
	path     string
	gateway  *gateway // nil: a Service
	attached int      // places that took the route
	fault    fault    // why none did
}

func newHTTPRoute(o *object, spec *httpRouteSpec) *route {
	r := newRoute(o, spec.routeSpec)
	at := join(o.path, "rules")
	if len(spec.Rules) == 0 && !o.Has(at) {
		spec.Rules = []httpRule{{}} // the API's default: one rule for every request
	}
	for i, one := range spec.Rules {
		path := index(at, i)
		b := ruleBuilder{object: o, rule: &rule{index: i, name: one.Name, path: path, refusal: 500}}
		b.filters(join(path, "filters"), one.Filters)
		b.backends(join(path, "backendRefs"), one.Backends)
		b.httpMatches(join(path, "matches"), one.Matches)
		b.timeouts(join(path, "timeouts"), one.Timeouts)
		b.retry(join(path, "retry"), one.Retry)
		r.rules = append(r.rules, b.finish())
	}
	r.check(at)
	return r
}

func newGRPCRoute(o *object, spec *grpcRouteSpec) *route {
	r := newRoute(o, spec.routeSpec)
	at := join(o.path, "rules")
	for i, one := range spec.Rules {
		path := index(at, i)
		// Clients take an answer of HTTP with 503 as UNAVAILABLE, and one with 404 as UNIMPLEMENTED.
		b := ruleBuilder{object: o, rule: &rule{index: i, name: one.Name, path: path, refusal: 503}}
		b.filters(join(path, "filters"), httpFilters(one.Filters))
		b.backends(join(path, "backendRefs"), httpBackends(one.Backends))
		b.grpcMatches(join(path, "matches"), one.Matches)
		b.retry("", nil)
		r.rules = append(r.rules, b.finish())
	}
	r.check(at)
	return r
}

func newRoute(o *object, spec routeSpec) *route {
	r := &route{object: o, refs: spec.Parents}
	o.route = r
	for i, name := range spec.Hostnames {
		at := index(join(o.path, "hostnames"), i)
		if !o.Has(at) && !validHost(name) {
			o.Problem(CodeInvalid, at, "books.example.com or *.example.com", "%q is not a host", name)
		}
		r.hostnames = append(r.hostnames, name)
	}
	return r
}

// check looks at the rules together, and says whether there is anything that a parent could take.
func (r *route) check(at string) {
	matches, names := 0, map[string]bool{}
	for _, one := range r.rules {
		matches += len(one.matches)
		if one.name != "" && names[one.name] {
			r.Problem(CodeConflict, join(one.path, "name"), "", "there is another rule named %q", one.name)
			one.fault = fault{ReasonUnsupportedValue, "there is another rule of that name"}
		}
		names[one.name] = true
	}
	if matches > maxMatches {
		r.Problem(CodeInvalid, at, "", "the rules have %d matches, and may have %d", matches, maxMatches)
	}
	whole := func(path string) bool {
		return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Path == path && slices.Contains(hard, p.Code) })
	}
	broken := slices.DeleteFunc(slices.Clone(r.rules), func(one *rule) bool { return one.fault == fault{} })
	switch {
	case whole(r.path) || whole(at) || r.Has(join(r.path, "hostnames"), hard...):
		r.fault = fault{ReasonUnsupportedValue, "the spec is malformed"}
	case len(broken) > 0 && len(broken) == len(r.rules):
		r.fault = fault{broken[0].fault.reason, "no rule can be used: " + broken[0].fault.message}
	}
}

// status is what a controller says about the route.
func (r *route) status() *Status {
	s := &Status{Kind: r.kind, Namespace: r.namespace, Name: r.name, Generation: r.generation}
	for _, p := range r.parents {
		s.Parents = append(s.Parents, Parent{
			Ref:        ParentRef{p.ref.Group, p.ref.Kind, p.ref.Namespace, p.ref.Name, p.ref.SectionName, int(p.ref.Port)},
			Conditions: r.conditions(p),
		})
	}
	return s
}

func (r *route) conditions(p *parent) []Condition {
	rejected := r.fault.or(p.fault)
	out := []Condition{rejected.condition(Accepted), r.unresolved(p.gateway != nil).condition(ResolvedRefs)}
	if rejected == (fault{}) {
		var dropped []string
		for _, one := range r.rules {
			if one.fault != (fault{}) {
				dropped = append(dropped, one.label()+": "+one.fault.message)
			}
		}
		if len(dropped) > 0 {
			out = append(out, Condition{Type: PartiallyInvalid, True: true, Reason: ReasonUnsupportedValue, Message: "Dropped Rule " + strings.Join(dropped, "; ")})
		}
	}
	return out
}

// unresolved is why not all references of the route lead somewhere, for a parent that is a Gateway or one that is not.
func (r *route) unresolved(gateway bool) fault {
	for _, one := range r.rules {
		for _, ref := range one.references() {
			if f := ref.wrong(gateway); f != (fault{}) {
				return f
			}
		}
	}
	return fault{}
}

// finish looks for the parents that did not take the route.
func (r *route) finish() {
	for _, p := range r.parents {
		if p.attached == 0 && p.fault == (fault{}) && r.fault == (fault{}) {
			p.fault = fault{ReasonConflicted, "a route of another kind has the same hosts and port"}
			r.Problem(CodeConflict, p.path, "put all routes of a host into one kind", "%s", p.fault.message)
		}
	}
}

// attach finds the places where routes want to be, and resolves what they refer to.
func (c *compiler) attach() []*place {
	services := &servicePlaces{byKey: map[string]*place{}}
	for _, r := range c.routes {
		if len(r.refs) == 0 && !r.Has(join(r.path, "parentRefs")) {
			r.Problem(CodeInvalid, r.path, "name a Gateway or a Service in parentRefs", "the route has no parent, and does nothing")
		}
		for i, ref := range r.refs {
			path := index(join(r.path, "parentRefs"), i)
			if r.Has(path, hard...) || r.repeated(i, path) {
				continue
			}
			ref.Namespace = cmp.Or(ref.Namespace, r.namespace)
			switch {
			case ref.Group == group && ref.Kind == "Gateway":
				c.toGateway(r, r.refs[i], ref, path)
			case ref.Group == "" && ref.Kind == "Service":
				c.toService(r, r.refs[i], ref, path, services)
			default:
				hint := "a Gateway, or a Service with group: ''"
				r.Problem(CodeNotHonoured, path, hint, "a parent of the kind %s in the group %q is not honoured", ref.Kind, ref.Group)
			}
		}
		c.resolve(r)
	}
	all := services.inOrder
	for _, key := range slices.Sorted(maps.Keys(c.gateways)) {
		for _, l := range c.gateways[key].listeners {
			all = append(all, &l.place)
		}
	}
	return all
}

// repeated reports a parentRef that another one before it covers.
func (r *route) repeated(i int, path string) bool {
	own := r.refs[i]
	own.Namespace = cmp.Or(own.Namespace, r.namespace)
	for j, other := range r.refs[:i] {
		other.Namespace = cmp.Or(other.Namespace, r.namespace)
		if other == own {
			r.Problem(CodeConflict, path, "remove one of them", "parentRefs[%d] names the same parent", j)
			return true
		}
	}
	return false
}

// toService attaches a route to the ports of a Service.
func (c *compiler) toService(r *route, written, ref parentRef, path string, places *servicePlaces) {
	p := &parent{ref: written, path: path}
	r.parents = append(r.parents, p)
	svc := c.service(ref.Name, ref.Namespace)
	if svc == nil {
		p.fault = fault{ReasonNoMatchingParent, "no such Service: " + ref.Namespace + "/" + ref.Name}
		r.Problem(CodeReference, join(path, "name"), "", "no such service: %s", mesh.FQDN(ref.Name, ref.Namespace))
		r.CouldBe(ref.Name, c.servicesOf(ref.Namespace))
		return
	}
	if len(r.hostnames) > 0 && !r.Has(join(r.path, "hostnames")) {
		r.Problem(CodeNotHonoured, join(r.path, "hostnames"), "match the header Host", "hostnames say nothing to a Service (GEP-1294)")
	}
	consumer := r.namespace
	if ref.Namespace == r.namespace {
		consumer = ""
	}
	meant := slices.DeleteFunc(slices.Clone(svc.Ports), func(port mesh.Port) bool {
		return ref.Port != 0 && int(ref.Port) != port.Number || ref.SectionName != "" && ref.SectionName != port.Name
	})
	spoken := slices.DeleteFunc(slices.Clone(meant), func(port mesh.Port) bool { return !port.Protocol.IsHTTP() })
	switch {
	case len(meant) == 0:
		p.fault = fault{ReasonNoMatchingParent, "the Service has no such port"}
		r.Problem(CodeReference, path, "", "%s has no such port", mesh.LogicalName(svc.Host))
	case len(spoken) == 0:
		p.fault = fault{ReasonUnsupportedProtocol, "the port does not speak HTTP"}
		r.Problem(CodeInvalid, path, "", "routes need HTTP, and no port of %s that is meant speaks it", mesh.LogicalName(svc.Host))
	case r.fault == (fault{}):
		for _, port := range spoken {
			places.at(svc.Host, port.Number, consumer).want(attachment{route: r, parent: p})
		}
	}
}

// service is a known service by its name and namespace.
func (c *compiler) service(name, namespace string) *mesh.Service {
	return c.rules.Services[mesh.FQDN(name, namespace)]
}

// servicesOf are the names of the services of a namespace.
func (c *compiler) servicesOf(namespace string) []string {
	var names []string
	for host := range c.rules.Services {
		if name, in, ok := mesh.ShortName(host); ok && in == namespace {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
