package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/ratelimit"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/upstream"
)

// config is one configuration, compiled: everything that a request needs, resolved. It is immutable; requests finish on the one that they began with.
type config struct {
	serial         uint64 // counts the configurations of the server
	generation     mesh.Generation
	generationText string
	snapshot       *mesh.Snapshot
	router         *route.Router    // nil without inbound
	inbound        *mesh.Inbound    // nil: nothing to listen on yet
	roles          map[string]*role // of listeners, by address
	clusters       map[clusterKey]*cluster
	leads          map[*route.Arm]*lead
	captured       *captured                     // nil: nothing is
	peer           string                        // who we are, as upstreams are told
	limiter        *ratelimit.Limiter            // of requests to the workload
	upstreamLimits map[string]*ratelimit.Limiter // of requests that are routed to a host
	edgeToken      secret                        // of the run's load
	directToken    secret                        // of the run at the direct listener
}

// place is where a connection came, and what for.
type place struct {
	bind string
	way  way
}

// way is what a listener is for.
type way uint8

const (
	inboundWay     way = iota // traffic to the workload
	outboundWay               // the workload's traffic to one upstream
	proxyWay                  // the workload's traffic by http_proxy
	capturedInWay             // traffic to the workload that the kernel redirects
	capturedOutWay            // the workload's traffic that the kernel redirects
	numWays        = iota
)

func (w way) String() string {
	return [numWays]string{"inbound", "outbound", "http_proxy", "captured_inbound", "captured_outbound"}[w]
}

// inward reports whether the traffic is to the workload.
func (w way) inward() bool { return w == inboundWay || w == capturedInWay }

// captured reports whether the kernel redirects the traffic, so that what a connection is for depends on where it was going.
func (w way) captured() bool { return w == capturedInWay || w == capturedOutWay }

// leaving reports whether the traffic is the workload's requests as it sends them itself: what each is for, its listener and its authority say.
func (w way) leaving() bool { return w == outboundWay || w == proxyWay }

// role is what a listener, or a connection that was captured, does under one configuration.
type role struct {
	way      way
	tcp      bool
	http2    bool        // its port speaks HTTP/2, and so do its callers
	tls      *tls.Config // of a gateway's listener; nil: it does not speak TLS
	speaks   *mesh.ServerTLS
	sniffs   bool         // what it carries is TLS, and goes where its server name says
	edge     bool         // strangers call here: the mesh's own headers are not theirs to send or to see
	host     string       // fully qualified; "" where the authority of each request says it
	port     int          // of the service
	table    *route.Table // outbound; nil: nothing is known of the host
	refused  bool         // because nothing is known of it, and only what is known may be reached
	app      *destination // inbound
	received [numKinds]*telemetry.Receiver
	unrouted *records  // of requests that no rule takes
	captured *captured // of connections that the kernel redirected, and of an http_proxy through which anything may be reached
}

// compiler makes a config of a snapshot.
type compiler struct {
	srv  *Server
	prev *config
	next *config
	errs []error
}

// compile makes the configuration of a snapshot, keeping what still holds of an earlier one.
func (s *Server) compile(prev *config, snapshot *mesh.Snapshot, generation mesh.Generation) (*config, error) {
	s.compiled++
	c := &compiler{srv: s, prev: prev, next: &config{
		serial: s.compiled, generation: generation, generationText: generation.String(), snapshot: snapshot, inbound: snapshot.Inbound[s.opts.Workload.Instance],
		roles: map[string]*role{}, clusters: map[clusterKey]*cluster{}, leads: map[*route.Arm]*lead{},
	}}
	if err := c.routes(); err != nil {
		return nil, err
	}
	if c.next.inbound != nil {
		c.next.peer = string(telemetry.AppendPeer(nil, telemetry.PeerOf(c.next.inbound.Workload)))
		c.limits(c.next.inbound)
		c.listeners(c.next.inbound)
		c.tokens(c.next.inbound.Tokens)
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return c.next, nil
}

// limits compiles the rate limits. Buckets go on as they are where their limit stays.
func (c *compiler) limits(in *mesh.Inbound) {
	prev := c.prev
	if prev == nil {
		prev = &config{}
	}
	c.next.limiter = c.limiter("", in.Limits, prev.limiter)
	if len(in.UpstreamLimits) > 0 {
		c.next.upstreamLimits = make(map[string]*ratelimit.Limiter, len(in.UpstreamLimits))
	}
	for _, host := range slices.Sorted(maps.Keys(in.UpstreamLimits)) {
		c.next.upstreamLimits[host] = c.limiter(host, in.UpstreamLimits[host], prev.upstreamLimits[host])
	}
}

// limiter compiles the limits of requests to a host; empty: to the workload. A limit's name is its own within one host only, so of any other it is told with the host's.
func (c *compiler) limiter(host string, limits []mesh.RateLimit, prev *ratelimit.Limiter) *ratelimit.Limiter {
	where, prefix := "rate limits", ""
	if host != "" {
		where, prefix = where+" of "+host, mesh.LogicalName(host)+"/"
	}
	made, err := ratelimit.New(limits, prev)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", where, err))
		return nil
	}
	c.srv.countLimits(prefix, made)
	return made
}

func (c *compiler) routes() (err error) {
	var prev *route.Router
	if c.prev != nil {
		prev = c.prev.router
	}
	workload := c.srv.opts.Workload
	if in := c.next.inbound; in != nil {
		workload = in.Workload
	}
	if c.next.router, err = route.Recompile(prev, c.next.snapshot, workload); err != nil {
		return err
	}
	for _, table := range c.next.router.Tables() {
		for i := range table.Rules {
			c.rule(table, &table.Rules[i])
		}
	}
	return nil
}

// rule resolves what a rule's requests need.
func (c *compiler) rule(table *route.Table, r *route.Rule) {
	where := fmt.Sprintf("routes %s: route %s", mesh.HostPort(table.Host, table.Port), r.Name)
	c.edits(where+": response headers", r.Response)
	if w := r.Route.Rewrite; w != nil {
		var scratch http1.Edits
		if w.Path != "" && !scratch.SetPath([]byte(w.Path)) {
			c.errs = append(c.errs, fmt.Errorf("%s: %q is no path to rewrite to", where, w.Path))
		}
		if w.Authority != "" && !scratch.SetHost([]byte(w.Authority)) {
			c.errs = append(c.errs, fmt.Errorf("%s: %q is no authority to rewrite to", where, w.Authority))
		}
	}
	for i := range r.Arms {
		arm := &r.Arms[i]
		c.edits(where+": request headers", arm.Request)
		c.edits(where+": response headers", arm.Response)
		c.next.leads[arm] = c.lead(r, arm)
	}
	for i := range r.Mirrors {
		arm := &r.Mirrors[i].Arm
		c.next.leads[arm] = c.lead(r, arm)
	}
}

// edits refuses changes of headers that HTTP does not let a route make.
func (c *compiler) edits(where string, edits []route.Edit) {
	var scratch http1.Edits
	for _, e := range edits {
		if !applyEdit(&scratch, e) {
			c.errs = append(c.errs, fmt.Errorf("%s: %q may not be changed to %q by a route", where, e.Name, e.Value))
		}
	}
}

func (c *compiler) listeners(in *mesh.Inbound) {
	if in.Capture != nil {
		c.capture(in)
	}
	for _, l := range in.Listen {
		r := c.inbound(in, l)
		if r == nil || l.Bind == "" {
			continue // it was captured, or is wrong
		}
		c.listener(l.Bind, r, l.Protocol)
	}
	for _, l := range in.Outbound {
		r := &role{way: outboundWay, edge: in.Trusted, host: l.Host, port: l.Port, table: c.next.router.Table(l.Host, l.Port)}
		r.unrouted = c.srv.newRecords(mesh.Edge{From: route.CallerName(in.Workload), To: mesh.LogicalName(l.Host)}, "", 0)
		r.refused = r.table == nil && in.Unknown == mesh.RegistryOnly
		c.gateway(l.Bind, r)
		c.listener(l.Bind, r, l.Protocol)
	}
	if in.Proxy != "" {
		r := &role{way: proxyWay, edge: in.Trusted}
		if in.Unknown == mesh.PassThrough {
			r.captured = &captured{beyond: c.beyond(in)}
		}
		r.unrouted = c.srv.newRecords(mesh.Edge{From: route.CallerName(in.Workload), To: telemetry.Unknown}, "", 0)
		c.listener(in.Proxy, r, mesh.HTTP)
	}
}

// gateway resolves how a gateway's listener speaks TLS; any other listener's port says nothing about it.
func (c *compiler) gateway(bind string, r *role) {
	service := c.next.snapshot.Services[r.host]
	if service == nil {
		return
	}
	i := slices.IndexFunc(service.Ports, func(p mesh.Port) bool { return p.Number == r.port })
	if i < 0 {
		return
	}
	port := service.Ports[i]
	if port.TLS == nil || port.TLS.Mode == mesh.Passthrough {
		return // it is of protocol TLS, and goes on as it is
	}
	if c.prev != nil {
		if had := c.prev.roles[bind]; had != nil && had.speaks == port.TLS {
			r.speaks, r.tls = had.speaks, had.tls // with the keys of its sessions
			return
		}
	}
	var err error
	if r.tls, err = serverTLS(port.TLS, port.Protocol); err != nil {
		c.errs = append(c.errs, fmt.Errorf("listener %s: TLS: %w", bind, err))
	}
	r.speaks = port.TLS
}

func (c *compiler) listener(bind string, r *role, protocol mesh.Protocol) {
	r.tcp, r.sniffs, r.http2 = c.isTCP("listener "+bind, protocol), protocol == mesh.TLS, protocol.IsHTTP2()
	if c.next.roles[bind] != nil {
		c.errs = append(c.errs, fmt.Errorf("listener %s: there are two", bind))
	}
	c.next.roles[bind] = r
}

func (c *compiler) isTCP(where string, protocol mesh.Protocol) bool {
	switch {
	case protocol.IsHTTP():
		return false
	case protocol == mesh.TCP, protocol == mesh.TLS:
		return true
	default:
		c.errs = append(c.errs, fmt.Errorf("%s: protocol %q is not carried", where, protocol))
		return false
	}
}

// inbound resolves the way to the application itself; nil when there is none.
func (c *compiler) inbound(in *mesh.Inbound, l mesh.InboundPort) *role {
	host := mesh.FQDN(in.Workload.Service, in.Workload.Namespace)
	app, err := appEndpoint(in.Workload, l.App)
	if err == nil && l.Bind == "" && in.Capture == nil {
		err = errors.New("it is bound nowhere, and nothing is captured")
	}
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("listener %s for port %d: %w", l.Bind, l.Port, err))
		return nil
	}
	made, err := c.srv.apps.NewGroup(upstream.Destination{Name: "app " + l.App, Host: host, Protocol: l.Protocol, Endpoints: []mesh.Endpoint{app}})
	if err != nil {
		c.errs = append(c.errs, err)
		return nil
	}
	g := &group{Group: made, metrics: make([]handles, 1)}
	r := &role{way: inboundWay, host: host, port: l.Port, app: &destination{group: g, named: fmt.Sprintf("inbound|%d||", l.Port)}, received: c.srv.newReceivers(host, &in.Workload)}
	if c.next.captured != nil {
		c.captureInbound(app.Port, r, l.Protocol)
	}
	return r
}
