//go:build unix

package local

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/local/loopback"
	"meshtest.dev/meshtest/mesh"
)

// Ports that a sidecar's own listeners have, if they are free: Istio's port for outbound traffic, and from the other one on, one for each upstream.
const (
	proxyPort    = 15001
	upstreamPort = 15100
)

// instance is one place of the mesh: an application, a sidecar, or both.
type instance struct {
	name    string
	sidecar bool
	app     *env.Workload // nil: the edge
	host    string        // of this instance's address
	port    int           // where the application listens
	inbound *mesh.Inbound // nil without a sidecar
}

// layout is who listens where.
type layout struct {
	instances []*instance // in the order of their addresses
	snapshot  *mesh.Snapshot
}

// layOut gives every instance an address of the block and every listener a port, and fills them into the configuration.
func layOut(block *loopback.Block, d env.Deployment) (*layout, error) {
	l := &layout{snapshot: d.Snapshot.Clone()}
	apps := map[string]*env.Workload{}
	for i := range d.Workloads {
		apps[d.Workloads[i].Instance] = &d.Workloads[i]
	}
	names := map[string]bool{}
	for name := range d.Snapshot.Inbound {
		names[name] = true
	}
	for name := range apps {
		names[name] = true
	}
	if len(names) > loopback.Hosts {
		return nil, fmt.Errorf("%d instances are more than the %d that one machine can hold", len(names), loopback.Hosts)
	}
	for i, name := range slices.Sorted(maps.Keys(names)) {
		in, err := place(block, i+1, name, apps[name], d.Snapshot.Inbound[name])
		if err != nil {
			return nil, fmt.Errorf("finding addresses for %s: %w", name, err)
		}
		l.instances = append(l.instances, in)
		if in.inbound != nil {
			l.snapshot.Inbound[name] = in.inbound
		}
	}
	return l, l.fillEndpoints()
}

func place(block *loopback.Block, number int, name string, app *env.Workload, template *mesh.Inbound) (*instance, error) {
	in := &instance{name: name, app: app, host: block.Addr(number).String(), sidecar: template != nil}
	if app != nil {
		port, err := block.Port()
		if err != nil {
			return nil, err
		}
		in.port = int(port)
	}
	if template == nil {
		return in, nil
	}
	bind := func(want int) (string, error) {
		at, err := block.Endpoint(number, uint16(want))
		return at.String(), err
	}
	inbound := *template
	inbound.Listen = slices.Clone(template.Listen)
	inbound.Outbound = slices.Clone(template.Outbound)
	var err error
	for i := range inbound.Listen {
		listen := &inbound.Listen[i]
		if listen.Bind, err = bind(listen.Port); err != nil {
			return nil, err
		}
		listen.App = net.JoinHostPort(in.host, strconv.Itoa(in.port))
	}
	for i := range inbound.Outbound {
		if inbound.Outbound[i].Bind, err = bind(upstreamPort + i); err != nil {
			return nil, err
		}
	}
	if app != nil {
		if inbound.Proxy, err = bind(proxyPort); err != nil {
			return nil, err
		}
	}
	in.inbound = &inbound
	return in, nil
}

// fillEndpoints gives every endpoint of ours the address at which it is reached: its sidecar's, or its own outside the mesh.
func (l *layout) fillEndpoints() error {
	for name, template := range l.snapshot.Endpoints {
		filled := *template
		filled.Endpoints = slices.Clone(template.Endpoints)
		for i := range filled.Endpoints {
			e := &filled.Endpoints[i]
			if e.Address != "" && l.find(e.Instance) == nil {
				continue // it is somewhere else
			}
			host, port, err := l.reach(e.Instance, filled.Port)
			if err != nil {
				return fmt.Errorf("endpoints of %s: %w", name, err)
			}
			e.Address, e.Port = host, port
		}
		l.snapshot.Endpoints[name] = &filled
	}
	return nil
}

func (l *layout) reach(name string, port int) (string, int, error) {
	in := l.find(name)
	if in == nil {
		return "", 0, fmt.Errorf("no such instance: %q", name)
	}
	if in.inbound == nil {
		return in.host, in.port, nil
	}
	for _, listen := range in.inbound.Listen {
		if listen.Port == port {
			return splitHostPort(listen.Bind)
		}
	}
	return "", 0, fmt.Errorf("%s does not listen on port %d", name, port)
}

func (l *layout) find(name string) *instance {
	i := slices.IndexFunc(l.instances, func(in *instance) bool { return in.name == name })
	if i < 0 {
		return nil
	}
	return l.instances[i]
}

func splitHostPort(address string) (string, int, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(text)
	return host, port, err
}

// addresses is what an application is told.
type addresses struct {
	*layout
	in *instance
}

// Self is where the application listens.
func (a addresses) Self() (string, int) { return a.in.host, a.in.port }

// Upstream is the listener of the own sidecar for it or, for an application without a sidecar, the upstream itself.
func (a addresses) Upstream(name string) (string, int, bool) {
	i := slices.IndexFunc(a.in.app.Upstreams, func(u env.Upstream) bool { return u.Name == name })
	if i < 0 {
		return "", 0, false
	}
	upstream := a.in.app.Upstreams[i]
	if a.in.inbound == nil {
		i := slices.IndexFunc(a.instances, func(in *instance) bool { return in.app != nil && in.app.Host == upstream.Host })
		if i < 0 {
			return "", 0, false
		}
		host, port, err := a.reach(a.instances[i].name, upstream.Port)
		return host, port, err == nil
	}
	for _, out := range a.in.inbound.Outbound {
		if out.Host == upstream.Host && out.Port == upstream.Port {
			host, port, err := splitHostPort(out.Bind)
			return host, port, err == nil
		}
	}
	return "", 0, false
}
