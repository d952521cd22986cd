package gatewayapi

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// gateway is one Gateway with its listeners.
type gateway struct {
	*object
	listeners []*boundListener
}

// boundListener is a listener with the routes that it takes.
type boundListener struct {
	place
	spec       listener
	kinds      []string // of routes that it takes
	wrongKinds fault
	accepted   fault // why it does not listen
	conflict   fault // with another listener of its port
}

// listens reports whether the listener serves anything.
func (l *boundListener) listens() bool { return l.accepted == fault{} && l.conflict == fault{} }

// gateway reads a Gateway.
func (c *compiler) gateway(o *object, spec *gatewaySpec) {
	g := &gateway{object: o}
	o.gateway, c.gateways[o.key()] = g, g
	names := map[string]bool{}
	for i, l := range spec.Listeners {
		path := index(join(o.path, "listeners"), i)
		if names[l.Name] && l.Name != "" {
			o.Problem(CodeConflict, join(path, "name"), "", "there is another listener named %q", l.Name)
		}
		names[l.Name] = true
		g.listeners = append(g.listeners, g.listener(path, l))
	}
	g.conflicts()
}

func (g *gateway) listener(path string, spec listener) *boundListener {
	l := &boundListener{spec: spec, place: place{host: GatewayHost(g.name, g.namespace), port: int(spec.Port), gateway: true, listener: spec.Name}}
	if spec.Hostname != nil {
		l.hostname = *spec.Hostname
		if !g.Has(join(path, "hostname")) && !validHost(l.hostname) {
			g.Problem(CodeInvalid, join(path, "hostname"), "books.example.com or *.example.com", "%q is not a host", l.hostname)
		}
	}
	supported := []string{kindHTTP, kindGRPC}
	if spec.Protocol != "HTTP" {
		l.accepted = fault{ReasonUnsupportedProtocol, "the protocol " + spec.Protocol + " is not supported"}
		if !g.Has(path, hard...) {
			g.Problem(CodeNotHonoured, join(path, "protocol"), "HTTP", "the protocol %s is not honoured yet", spec.Protocol)
		}
		if spec.Protocol != "HTTPS" {
			supported = nil
		}
	}
	g.allowed(path, spec.AllowedRoutes, supported, l)
	if g.Has(path, hard...) {
		l.accepted = l.accepted.or(fault{ReasonUnsupportedValue, "the listener is malformed"})
	}
	return l
}

// allowed reads which routes a listener takes.
func (g *gateway) allowed(path string, a *allowedRoutes, supported []string, l *boundListener) {
	at := join(path, "allowedRoutes")
	if a == nil || len(a.Kinds) == 0 {
		l.kinds = supported
	} else {
		for i, k := range a.Kinds {
			switch {
			case k.Group == group && slices.Contains(supported, k.Kind):
				l.kinds = append(l.kinds, k.Kind)
			default:
				l.wrongKinds = fault{ReasonInvalidRouteKinds, "routes of the kind " + k.Kind + " are not supported"}
				if l.accepted == (fault{}) && !g.Has(index(join(at, "kinds"), i)) {
					g.Problem(CodeNotHonoured, index(join(at, "kinds"), i), "HTTPRoute or GRPCRoute", "routes of the kind %s are not honoured", k.Kind)
				}
			}
		}
	}
	if a != nil && a.Namespaces != nil && a.Namespaces.From == "Selector" && a.Namespaces.Selector == nil && !g.Has(at) {
		g.Problem(CodeInvalid, join(at, "namespaces"), "", "the field %q is missing", "selector")
	}
}

// conflicts finds listeners of one port that a request could not tell apart. None of them listens.
func (g *gateway) conflicts() {
	for i, l := range g.listeners {
		at := index(join(g.path, "listeners"), i)
		for j, other := range g.listeners {
			if i == j || l.spec.Port != other.spec.Port || l.spec.Port == 0 {
				continue
			}
			var f fault
			switch {
			case l.spec.Protocol != other.spec.Protocol:
				f = fault{ReasonProtocolConflict, fmt.Sprintf("listeners[%d] speaks another protocol on the port", j)}
			case l.hostname == other.hostname:
				f = fault{ReasonHostnameConflict, fmt.Sprintf("listeners[%d] has the same port and hostname", j)}
			default:
				continue
			}
			if l.conflict == (fault{}) {
				g.Problem(CodeConflict, at, "", "%s", f.message)
				l.conflict = f
			}
		}
	}
}

// takes reports whether a listener allows routes of a kind from a namespace.
func (c *compiler) takes(g *gateway, l *boundListener, kind, namespace string) bool {
	if !slices.Contains(l.kinds, kind) {
		return false
	}
	from, selector := "Same", (*labelSelector)(nil)
	if a := l.spec.AllowedRoutes; a != nil && a.Namespaces != nil {
		from, selector = a.Namespaces.From, a.Namespaces.Selector
	}
	switch from {
	case "All":
		return true
	case "Same":
		return namespace == g.namespace
	case "Selector":
		return selector.matches(c.labelsOf(namespace))
	default:
		return false
	}
}

// toGateway attaches a route to those listeners of a Gateway that take it.
func (c *compiler) toGateway(r *route, written, ref parentRef, path string) {
	g := c.gateways[ref.Namespace+"/"+ref.Name]
	if g == nil {
		r.Problem(CodeReference, join(path, "name"), "", "no such gateway: %s/%s", ref.Namespace, ref.Name)
		r.CouldBe(ref.Name, c.gatewaysOf(ref.Namespace))
		return
	}
	p := &parent{ref: written, path: path, gateway: g}
	r.parents = append(r.parents, p)
	meant := slices.DeleteFunc(slices.Clone(g.listeners), func(l *boundListener) bool {
		return ref.SectionName != "" && ref.SectionName != l.spec.Name || ref.Port != 0 && ref.Port != l.spec.Port
	})
	allowed := slices.DeleteFunc(slices.Clone(meant), func(l *boundListener) bool { return !c.takes(g, l, r.kind, r.namespace) || !l.listens() })
	attached := false
	for _, l := range allowed {
		if hosts := l.hostsOf(r); len(hosts) > 0 {
			attached = true
			if r.fault == (fault{}) {
				l.want(attachment{r, p, hosts})
			}
		}
	}
	switch {
	case len(meant) == 0:
		p.fault = fault{ReasonNoMatchingParent, "the Gateway has no such listener"}
		r.Problem(CodeReference, path, "", "the gateway %s has no such listener", g.key())
		if ref.SectionName != "" {
			r.CouldBe(ref.SectionName, g.listenerNames())
		}
	case len(allowed) == 0:
		p.fault = fault{ReasonNotAllowedByListeners, "no listener allows the route"}
		if !g.Has(join(g.path, "listeners")) { // else it is the Gateway that is wrong
			r.Problem(CodeReference, path, "allowedRoutes of the Gateway name kinds and namespaces", "no listener of the gateway %s allows the route", g.key())
		}
	case !attached:
		p.fault = fault{ReasonNoMatchingHostname, "no listener has a host of the route"}
		if r.fault == (fault{}) {
			r.Problem(CodeReference, path, "hostnames of both must overlap", "no listener of the gateway %s has a host of the route", g.key())
		}
	}
}

// hostsOf is what the hostnames of a route and that of the listener have in common; none: the listener does not serve the route.
func (l *boundListener) hostsOf(r *route) []shared {
	if len(r.hostnames) == 0 {
		return []shared{{common: l.hostname}}
	}
	var out []shared
	for _, own := range r.hostnames {
		for _, common := range overlap(l.hostname, own) {
			out = append(out, shared{own, common})
		}
	}
	return out
}

func (g *gateway) listenerNames() []string {
	var names []string
	for _, l := range g.listeners {
		names = append(names, l.spec.Name)
	}
	return names
}

// gatewaysOf are the names of the Gateways of a namespace.
func (c *compiler) gatewaysOf(namespace string) []string {
	var names []string
	for _, key := range slices.Sorted(maps.Keys(c.gateways)) {
		if name, ok := strings.CutPrefix(key, namespace+"/"); ok {
			names = append(names, name)
		}
	}
	return names
}

// status is what a controller says about the Gateway. Whether it is programmed, only the controller knows.
func (g *gateway) status() *Status {
	s := &Status{Kind: g.kind, Namespace: g.namespace, Name: g.name, Generation: g.generation}
	listening := 0
	for _, l := range g.listeners {
		if l.listens() {
			listening++
		}
		conflicted := Condition{Type: Conflicted, Reason: ReasonNoConflicts}
		if l.conflict != (fault{}) {
			conflicted = Condition{Type: Conflicted, True: true, Reason: l.conflict.reason, Message: l.conflict.message}
		}
		s.Listeners = append(s.Listeners, Listener{
			Name: l.spec.Name, SupportedKinds: slices.Clone(l.kinds), AttachedRoutes: len(l.routes),
			Conditions: []Condition{l.accepted.condition(Accepted), conflicted, l.wrongKinds.condition(ResolvedRefs)},
		})
	}
	accepted := fault{}.condition(Accepted)
	if listening < len(g.listeners) || listening == 0 {
		accepted = Condition{Type: Accepted, True: listening > 0, Reason: ReasonListenersNotValid, Message: fmt.Sprintf("%d of %d listeners can be used", listening, len(g.listeners))}
	}
	s.Conditions = []Condition{accepted}
	return s
}

// mostSpecific orders listeners of a port: by names, then by wildcards from the longest to the shortest, then those for any host.
func mostSpecific(a, b *boundListener) int {
	return cmp.Compare(specificity(b.hostname), specificity(a.hostname))
}
