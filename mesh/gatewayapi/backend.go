package gatewayapi

import (
	"cmp"
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// reference is a reference of a rule to a backend, and what came of it.
type reference struct {
	ref    backendRef
	path   string
	host   string // fully qualified, when it is there
	port   int
	fault  fault // why nobody may use it
	denied fault // why a Gateway may not: no grant of the backend's namespace allows it
}

// wrong is why the reference cannot be used, by a Gateway or by the callers of a Service; the zero value: it can.
func (r *reference) wrong(gateway bool) fault {
	if gateway {
		return r.denied.or(r.fault)
	}
	return r.fault
}

func httpBackends(backends []grpcBackend) []httpBackend {
	var out []httpBackend
	for _, b := range backends {
		out = append(out, httpBackend{b.backendRef, b.Weight, httpFilters(b.Filters)})
	}
	return out
}

// backends compiles the backends of a rule, all but where they lead.
func (b *ruleBuilder) backends(path string, backends []httpBackend) {
	if len(backends) > 0 && b.rule.redirect != nil {
		b.Problem(CodeInvalid, path, "remove them, or the filter", "a rule with RequestRedirect has no backends")
	}
	for i, one := range backends {
		at := index(path, i)
		// The filters of a backend are read like those of a rule, of which only changes of headers may be there.
		own := ruleBuilder{object: b.object, rule: &rule{}}
		filters := join(at, "filters")
		own.filters(filters, one.Filters)
		for j, f := range one.Filters {
			switch f.Type {
			case "RequestRedirect", "URLRewrite", "RequestMirror", "CORS":
				b.Problem(CodeNotHonoured, join(index(filters, j), "type"), "put it into the filters of the rule", "the filter %s is not honoured for one backend", f.Type)
			}
		}
		b.rule.arms = append(b.rule.arms, arm{
			reference: reference{ref: one.backendRef, path: at}, weight: uint32(one.Weight),
			request: own.rule.request, response: own.rule.response, refused: b.Has(filters, CodeNotHonoured),
		})
	}
}

// resolve finds what the rules of a route refer to, once all services and parents are known.
func (c *compiler) resolve(r *route) {
	gateways := slices.ContainsFunc(r.parents, func(p *parent) bool { return p.gateway != nil })
	for _, one := range r.rules {
		for _, ref := range one.references() {
			if r.Has(ref.path, hard...) {
				ref.fault = fault{ReasonBackendNotFound, "the reference is malformed"}
				continue
			}
			c.find(r, ref)
			if f := ref.denied; f != (fault{}) && gateways {
				r.Problem(CodeReference, join(ref.path, "namespace"), "a ReferenceGrant in the backend's namespace allows it", "%s", f.message)
			}
		}
	}
}

// find finds the backend of a reference. Any port of a Service will do, whatever is said to be spoken there: the route itself says that it is HTTP.
func (c *compiler) find(r *route, ref *reference) {
	namespace := cmp.Or(ref.ref.Namespace, r.namespace)
	if namespace != r.namespace && !c.granted(r, ref.ref, namespace) {
		ref.denied = fault{ReasonRefNotPermitted, "no ReferenceGrant allows " + r.kind + "s of " + r.namespace + " to use " + ref.ref.Kind + " " + namespace + "/" + ref.ref.Name}
	}
	if ref.ref.Group != "" || ref.ref.Kind != "Service" {
		ref.fault = fault{ReasonInvalidKind, "a backend of the kind " + ref.ref.Kind + " is not supported"}
		r.Problem(CodeNotHonoured, ref.path, "a Service", "a backend of the kind %s in the group %q is not honoured", ref.ref.Kind, ref.ref.Group)
		return
	}
	svc := c.service(ref.ref.Name, namespace)
	switch {
	case svc == nil:
		ref.fault = fault{ReasonBackendNotFound, "no such Service: " + namespace + "/" + ref.ref.Name}
		r.Problem(CodeReference, join(ref.path, "name"), "", "no such service: %s", mesh.FQDN(ref.ref.Name, namespace))
		r.CouldBe(ref.ref.Name, c.servicesOf(namespace))
	case ref.ref.Port == 0:
		ref.fault = fault{ReasonBackendNotFound, "a Service needs a port"}
		r.Problem(CodeInvalid, ref.path, "such as port: 8080", "the field %q is missing", "port")
	case !slices.ContainsFunc(svc.Ports, func(p mesh.Port) bool { return p.Number == int(ref.ref.Port) }):
		ref.fault = fault{ReasonBackendNotFound, "the Service " + namespace + "/" + ref.ref.Name + " has no such port"}
		r.Problem(CodeReference, join(ref.path, "port"), "", "%s has no port %d", mesh.LogicalName(svc.Host), ref.ref.Port)
	default:
		ref.host, ref.port = svc.Host, int(ref.ref.Port)
	}
}

// grant is one permission of a ReferenceGrant.
type grant struct {
	namespace string // of what may be used
	from      grantFrom
	to        grantTo
}

func grantsOf(o *object, spec *referenceGrantSpec) []grant {
	var out []grant
	for i, from := range spec.From {
		for j, to := range spec.To {
			if !o.Has(index(join(o.path, "from"), i)) && !o.Has(index(join(o.path, "to"), j)) {
				out = append(out, grant{o.namespace, from, to})
			}
		}
	}
	return out
}

// granted reports whether a route may use a backend in another namespace.
func (c *compiler) granted(r *route, ref backendRef, namespace string) bool {
	return slices.ContainsFunc(c.grants, func(g grant) bool {
		return g.namespace == namespace && g.from == grantFrom{group, r.kind, r.namespace} && g.to.Group == ref.Group && g.to.Kind == ref.Kind &&
			(g.to.Name == nil || *g.to.Name == "" || *g.to.Name == ref.Name)
	})
}
