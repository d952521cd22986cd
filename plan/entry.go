package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
	"meshtest.dev/meshtest/mesh/istio"
	"meshtest.dev/meshtest/spec"
)

// entry is a service that requests of a stream enter at, and the share of them that do.
type entry struct {
	service string
	share   float64
}

// entries finds where each stream enters the mesh: at its target, or where the rules of a gateway send it. Then it is known what load flows where.
func (b *builder) entries() {
	for i, l := range b.scenario.Load {
		if l.Gateway == "" {
			b.entered[l.Name] = []entry{{l.Target, 1}}
		} else if table := b.gateway("load["+strconv.Itoa(i)+"]", l); table != nil {
			b.entered[l.Name] = b.behind(table, l)
		}
		for _, e := range b.entered[l.Name] {
			b.call(spec.EdgeName, e.service)
		}
	}
	for _, l := range b.scenario.Load {
		b.visits[l.Name] = map[string]float64{}
		for _, e := range b.entered[l.Name] {
			for service, n := range b.reach(e.service) {
				b.visits[l.Name][service] += e.share * n
			}
		}
	}
	b.drawGraph()
}

// gateway finds the gateway of a stream, has the edge serve it, and returns its table; nil when there is none, which is reported.
func (b *builder) gateway(path string, l spec.Stream) *mesh.RouteTable {
	snap := b.plan.Snapshot
	host := b.gatewayHost(l.Gateway)
	svc := snap.Services[host]
	if svc == nil {
		b.fail("MT1305", path+".gateway", spec.Suggest(l.Gateway, b.gateways()), "the rules have no Gateway %q", l.Gateway)
		return nil
	}
	port := l.Port
	if port == 0 && len(svc.Ports) == 1 {
		port = svc.Ports[0].Number
	}
	if !slices.ContainsFunc(svc.Ports, func(p mesh.Port) bool { return p.Number == port }) {
		var ports []string
		for _, p := range svc.Ports {
			ports = append(ports, strconv.Itoa(p.Number))
		}
		what := fmt.Sprintf("the Gateway %s has no port %d", l.Gateway, port)
		if l.Port == 0 {
			path, what = path+".gateway", fmt.Sprintf("the Gateway %s has several ports", l.Gateway)
		} else {
			path += ".port"
		}
		b.fail("MT1305", path, spec.Suggest("", ports), "%s", what)
		return nil
	}
	edge := *snap.Inbound[EdgeInstance]
	if way := (mesh.OutboundPort{Host: host, Port: port, Protocol: mesh.HTTP}); !slices.Contains(edge.Outbound, way) {
		edge.Outbound = append(slices.Clone(edge.Outbound), way)
		snap.Inbound[EdgeInstance] = &edge
	}
	return snap.Routes[mesh.HostPort(host, port)]
}

// gatewayHost is the host that stands for a Gateway of either API.
func (b *builder) gatewayHost(name string) string {
	if host := gatewayapi.GatewayHost(name, b.scenario.Namespace); b.plan.Snapshot.Services[host] != nil {
		return host
	}
	return istio.GatewayHost(name, b.scenario.Namespace)
}

// gateways are the names of the Gateways in the scenario's namespace.
func (b *builder) gateways() []string {
	var names []string
	for _, host := range slices.Sorted(maps.Keys(b.plan.Snapshot.Services)) {
		for _, nameOf := range []func(string) (name, namespace string, ok bool){istio.GatewayName, gatewayapi.GatewayName} {
			if name, namespace, ok := nameOf(host); ok && namespace == b.scenario.Namespace {
				names = append(names, name)
			}
		}
	}
	return names
}

// behind says where the table of a gateway sends a stream's requests.
func (b *builder) behind(table *mesh.RouteTable, l spec.Stream) []entry {
	route, ok := b.taken(table, spec.EdgeName, l)
	if !ok {
		return nil
	}
	shares := map[string]float64{}
	var sum float64
	for _, d := range route.Split {
		sum += float64(d.Weight)
	}
	for _, d := range route.Split {
		if name, namespace, _ := mesh.ShortName(d.Host); namespace == b.scenario.Namespace && b.scenario.Services[name] != nil && d.Weight > 0 {
			shares[name] += float64(d.Weight) / sum
		}
	}
	var all []entry
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		all = append(all, entry{name, shares[name]})
	}
	return all
}

// entryTable is the table by which the edge routes a stream to a service.
func (b *builder) entryTable(l spec.Stream) *mesh.RouteTable {
	host := b.gatewayHost(l.Gateway)
	port := l.Port
	if svc := b.plan.Snapshot.Services[host]; port == 0 {
		port = svc.Ports[0].Number
	}
	return b.plan.Snapshot.Routes[mesh.HostPort(host, port)]
}
