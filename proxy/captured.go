package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// What is not of the mesh has Istio's names in metrics and evidence.
const (
	passThrough        = "PassthroughCluster"        // the workload's traffic, to where it was going
	inboundPassThrough = "InboundPassthroughCluster" // traffic to the workload, at a port of no service
	blackHole          = "BlackHoleCluster"          // the workload's traffic, refused
)

// captured says what a captured connection is for, by where it was going.
type captured struct {
	inbound map[uint16]*role         // by the application's port
	address map[netip.AddrPort]*role // of services, by their addresses
	http    map[uint16]*role         // of ports at which any service speaks HTTP
	tls     map[uint16]*role         // of ports at which any service speaks TLS of its own
	refuse  bool                     // what is not known is refused
	refused *role                    // of connections that are, for those who speak HTTP: they are told
	beyond  *destination             // what is not known, when it is passed through
}

// role is what a connection is for; dst is where it was going, if it was captured. It is nil when there is no listener any more, or one for
// something else.
func (c *config) role(at place, dst netip.AddrPort) *role {
	rest := c.roles[at.bind]
	switch {
	case rest == nil, rest.way != at.way && !(rest.way.leaving() && at.way.leaving()):
		return nil
	case !at.way.captured():
		return rest
	}
	all := c.captured
	switch at.way {
	case capturedInWay:
		if r := all.inbound[dst.Port()]; r != nil {
			return r
		}
	default:
		if r := all.address[dst]; r != nil {
			return r
		}
		if r := all.http[dst.Port()]; r != nil {
			return r
		}
		if r := all.tls[dst.Port()]; r != nil {
			return r
		}
	}
	return rest
}

// capture resolves what captured connections are for. Those to a known address go by it, and by the authority of their requests if that is known; those to a port at which anybody speaks HTTP go by the
// authority; the rest is carried as TCP to where it was going.
func (c *compiler) capture(in *mesh.Inbound) {
	if c.srv.opts.OriginalDst == nil {
		c.errs = append(c.errs, errors.New("traffic is to be captured, and here is no telling where it was going"))
		return
	}
	all := &captured{inbound: map[uint16]*role{}, address: map[netip.AddrPort]*role{}, http: map[uint16]*role{}, tls: map[uint16]*role{}}
	c.next.captured = all
	switch in.Unknown {
	case "", mesh.PassThrough:
	case mesh.RegistryOnly:
		all.refuse = true
	default:
		c.errs = append(c.errs, fmt.Errorf("captured traffic: %q is no treatment of the unknown", in.Unknown))
	}
	all.beyond = c.beyond(in)
	if in.Capture.Inbound != "" {
		c.listener(in.Capture.Inbound, &role{way: capturedInWay, host: inboundPassThrough, captured: all}, mesh.TCP)
	}
	if in.Capture.Outbound != "" {
		c.captureOutbound(in)
		c.listener(in.Capture.Outbound, &role{way: capturedOutWay, captured: all}, mesh.TCP)
	}
}

// beyond is what the mesh does not know, as a destination.
func (c *compiler) beyond(in *mesh.Inbound) *destination {
	edge := mesh.Edge{From: route.CallerName(in.Workload), To: passThrough}
	return &destination{arm: &route.Arm{Host: passThrough, Edge: edge, EdgeName: edge.String()}, named: passThrough, records: c.srv.newRecords(edge, "", 0)}
}

// captureInbound takes traffic to the application's port. When several services lead to it, it counts as the first one's.
func (c *compiler) captureInbound(port int, r *role, protocol mesh.Protocol) {
	all := c.next.captured
	r.tcp, r.http2 = c.isTCP(fmt.Sprintf("captured port %d", port), protocol), protocol.IsHTTP2()
	if all.inbound[uint16(port)] == nil {
		all.inbound[uint16(port)] = r
	}
}

// captureOutbound resolves the ports and addresses of all services.
func (c *compiler) captureOutbound(in *mesh.Inbound) {
	all := c.next.captured
	from := route.CallerName(in.Workload)
	unknown := c.srv.newRecords(mesh.Edge{From: from, To: telemetry.Unknown}, "", 0)
	all.refused = &role{way: capturedOutWay, edge: in.Trusted, unrouted: unknown, captured: all}
	for _, host := range slices.Sorted(maps.Keys(c.next.snapshot.Services)) {
		service := c.next.snapshot.Services[host]
		for _, p := range service.Ports {
			tcp := !p.Protocol.IsHTTP()
			if p.Protocol == mesh.TLS && all.tls[uint16(p.Number)] == nil {
				all.tls[uint16(p.Number)] = &role{way: capturedOutWay, tcp: true, sniffs: true, port: p.Number, captured: all}
			}
			if !tcp && all.http[uint16(p.Number)] == nil {
				all.http[uint16(p.Number)] = &role{way: capturedOutWay, edge: in.Trusted, port: p.Number, unrouted: unknown, captured: all}
			}
			c.captureAddresses(in, service, p)
		}
	}
}

// captureAddresses takes traffic to a service's own addresses.
func (c *compiler) captureAddresses(in *mesh.Inbound, service *mesh.Service, p mesh.Port) {
	port := p.Number
	if len(service.Addresses) == 0 {
		return
	}
	r := &role{
		way: capturedOutWay, http2: p.Protocol.IsHTTP2(), edge: in.Trusted, host: service.Host, port: port, table: c.next.router.Table(service.Host, port), captured: c.next.captured,
	}
	if !p.Protocol.IsHTTP() {
		r.way, r.tcp, r.sniffs = outboundWay, true, p.Protocol == mesh.TLS
	} else {
		r.unrouted = c.srv.newRecords(mesh.Edge{From: route.CallerName(in.Workload), To: mesh.LogicalName(service.Host)}, "", 0)
	}
	for _, text := range service.Addresses {
		address, err := netip.ParseAddr(text)
		if err != nil {
			c.errs = append(c.errs, fmt.Errorf("service %s: address: %w", service.Host, err))
			continue
		}
		if at := netip.AddrPortFrom(address.Unmap(), uint16(port)); c.next.captured.address[at] == nil {
			c.next.captured.address[at] = r
		}
	}
}

// whereTo finds out where a connection was going, for listeners that have to know. It is not known of one that was going to the listener itself: nobody redirected it, and carrying it on would bring
// it back.
func (c *conn) whereTo() (dst netip.AddrPort, known bool) {
	if !c.at.way.captured() {
		return dst, true
	}
	dst, err := c.srv.opts.OriginalDst(c.accepted)
	if err != nil {
		c.srv.opts.Log.Debug("a connection to the listener for captured traffic", "listener", c.at.bind, "from", c.accepted.RemoteAddr(), "error", err)
		return dst, false
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	local, ok := c.accepted.LocalAddr().(*net.TCPAddr)
	return dst, !ok || dst != netip.AddrPortFrom(local.AddrPort().Addr().Unmap(), local.AddrPort().Port())
}

// routeCaptured routes by what the request says it is for, and else by the address that it was sent to.
func (s *stream) routeCaptured() {
	if s.req.HTTPS {
		s.local(400, ReasonScheme, 0)
		return
	}
	table := s.cfg.router.TableOn(s.req.Host(), s.role.port)
	switch {
	case table != nil:
		s.route(table)
	case s.role.host != "":
		s.route(s.role.table)
	case s.role.captured.refuse:
		s.local(502, ReasonUnknownHost, FlagNoCluster)
	default:
		s.goOn()
	}
}

// directOnward finds out whether a captured connection of which nothing is known goes on to where it was going, or why not.
func (s *stream) directOnward() (refused string) {
	if s.serverName != "" {
		if table := s.cfg.router.TableOn([]byte(s.serverName), s.role.port); table != nil {
			return s.routeTCP(table)
		}
	}
	if s.role.way == capturedOutWay && s.role.captured.refuse {
		if s.speaksHTTP() {
			return ReasonUnknownHost
		}
		return s.blackHole()
	}
	s.goTo(s.role.captured.beyond, 0)
	return ""
}

// refusalTime is how long somebody who is refused may take to show that he speaks HTTP.
const refusalTime = 250 * time.Millisecond

// speaksHTTP reports whether what the caller says first is a request line, or the beginning of one.
func (s *stream) speaksHTTP() bool {
	s.c.alarm.enter(gathering, s.srv.now()+refusalTime, nil, s.c.sock, nil)
	err := s.in.fill(s.c.sock)
	s.c.settle()
	method, _, ok := bytes.Cut(s.in.bytes(), []byte(" "))
	return err == nil && ok && http1.KnownMethod(method)
}

// explain answers the request of somebody who is refused. It is his last on this connection.
func (s *stream) explain() {
	s.c.role, s.c.stays = s.cfg.captured.refused, false
	s.serve()
	s.part()
}

// blackHole counts a connection to what is not known as Istio does.
func (s *stream) blackHole() (refused string) {
	told := s.srv.opts.Metrics.Connections(telemetry.Traffic{Reporter: telemetry.Source, Source: telemetry.PeerOf(*s.caller()), Host: blackHole})
	told.Opened()
	told.Closed(uint32(FlagNoCluster))
	return reasonUnknownAddress
}
