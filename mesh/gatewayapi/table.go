package gatewayapi

import (
	"cmp"
	"maps"
	"net/http"
	"slices"

	"meshtest.dev/meshtest/mesh"
)

// defaultRouteName is the name of the route of callers that no route is for: as if there were no rules.
const defaultRouteName = "default"

// gatewayTables makes a table for each port of a Gateway, and the pseudo service that has the ports.
func (c *compiler) gatewayTables(g *gateway) {
	svc := &mesh.Service{Host: GatewayHost(g.name, g.namespace)}
	ports := map[int][]*boundListener{}
	for _, l := range g.listeners {
		if !l.listens() {
			continue
		}
		if ports[l.port] == nil {
			svc.Ports = append(svc.Ports, mesh.Port{Name: l.listener, Number: l.port, Protocol: mesh.HTTP})
		}
		ports[l.port] = append(ports[l.port], l)
	}
	c.rules.Services[svc.Host] = svc
	for port, listeners := range ports {
		taken, routes := map[string]bool{}, map[*boundListener][]mesh.Route{}
		for _, l := range listeners { // in the order of the document, on which names may depend
			routes[l] = l.entries(taken)
		}
		slices.SortStableFunc(listeners, mostSpecific)
		table := &mesh.RouteTable{Host: svc.Host, Port: port}
		for i, l := range listeners {
			table.Routes = append(table.Routes, routes[l]...)
			covered := func(other *boundListener) bool { return includes(other.hostname, l.hostname) }
			if slices.ContainsFunc(listeners[i+1:], covered) && !endsWithAll(routes[l], l.hostname) {
				table.Routes = append(table.Routes, notFound(g.origin(), l.listener, mesh.Match{Hosts: []string{l.hostname}}, taken))
			}
		}
		c.rules.Routes[mesh.HostPort(svc.Host, port)] = table
	}
}

// endsWithAll reports whether the last route takes whatever has the host.
func endsWithAll(routes []mesh.Route, host string) bool {
	if len(routes) == 0 {
		return false
	}
	last := routes[len(routes)-1]
	for _, m := range last.Matches {
		hosts := m.Hosts
		if m.Hosts, m.SourceNamespace = nil, ""; m.TakesAll() && (len(hosts) == 0 || slices.Equal(hosts, []string{host})) {
			return true
		}
	}
	return len(last.Matches) == 0
}

// notFound is the route of what none of the routes of a listener, or for the callers of a namespace, takes.
func notFound(origin, suffix string, m mesh.Match, taken map[string]bool) mesh.Route {
	return mesh.Route{
		Name: free("not-found@"+suffix, nil, taken), Origin: origin, Matches: []mesh.Match{m},
		Direct: &mesh.DirectResponse{Status: http.StatusNotFound},
	}
}

// serviceTables makes a table for each port of a Service that is a parent. Callers of a namespace with routes of its own have these and no others; for the rest there are the routes of the Service's own
// namespace, or without any what would be without rules.
func (c *compiler) serviceTables(places []*place) {
	tables := map[string][]*place{}
	for _, p := range places {
		if !p.gateway && len(p.routes) > 0 {
			name := mesh.HostPort(p.host, p.port)
			tables[name] = append(tables[name], p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		callers := tables[name]
		slices.SortStableFunc(callers, func(a, b *place) int {
			last := func(p *place) string { return cmp.Or(p.consumer, "~") } // no namespace comes after ~
			return cmp.Compare(last(a), last(b))
		})
		table, taken := &mesh.RouteTable{Host: callers[0].host, Port: callers[0].port}, map[string]bool{}
		for _, p := range callers {
			routes := p.entries(taken)
			table.Routes = append(table.Routes, routes...)
			if p.consumer != "" && !endsWithAll(routes, "") {
				table.Routes = append(table.Routes, notFound("routes of the namespace "+p.consumer, p.consumer, mesh.Match{SourceNamespace: p.consumer}, taken))
			}
		}
		if callers[len(callers)-1].consumer != "" {
			table.Routes = append(table.Routes, mesh.Route{
				Name:  defaultRouteName,
				Split: []mesh.Destination{{Host: table.Host, Port: table.Port, Weight: 100}},
				Retry: mesh.DefaultRetry(),
			})
		}
		c.rules.Routes[name] = table
	}
}
