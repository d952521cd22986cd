package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/upstream"
)

// onward is where requests go whose destination has no endpoints: outside the mesh, by the address that the connection was going to, or else by what a request says. A connection has it to itself.
type onward struct {
	*destination
	to somewhere
}

// somewhere is an address, or a host and a port.
type somewhere struct {
	address netip.AddrPort
	host    string
	port    int
}

func (t somewhere) endpoint() mesh.Endpoint {
	if t.address.IsValid() {
		return mesh.Endpoint{Address: t.address.Addr().String(), Port: int(t.address.Port())}
	}
	return mesh.Endpoint{Address: t.host, Port: t.port}
}

// outside is whoever the mesh does not know.
var outside = &mesh.Service{External: true}

// aim picks the endpoint of a destination's first attempt, and reports whether there is anywhere to go.
func (s *stream) aim(arm *route.Arm) bool {
	if s.dest.group.service.Resolution != mesh.Original {
		s.choose(arm, 1)
		return true
	}
	return s.goTo(s.dest, arm.Port)
}

// goTo goes where the connection was going, or where the request says, for a destination; the port is for those that say none. It is not ok when nobody said where.
func (s *stream) goTo(d *destination, port int) (ok bool) {
	c := s.c
	to := somewhere{address: c.dst}
	if !c.dst.IsValid() && s.serverName != "" {
		to = somewhere{host: s.serverName, port: port}
	} else if !c.dst.IsValid() {
		host, number, _ := bytes.Cut(s.req.Host(), []byte(":"))
		if bytes.HasPrefix(host, []byte("[")) { // an IPv6 address
			host, number, _ = bytes.Cut(s.req.Host()[1:], []byte("]"))
			number = bytes.TrimPrefix(number, []byte(":"))
		}
		if n, err := strconv.Atoi(string(number)); err == nil {
			port = n
		}
		to = somewhere{host: c.hostOf(host), port: port}
	}
	if to.host == "" && !to.address.IsValid() || mesh.HostPort(to.host, to.port) == c.at.bind { // which would bring it back
		return false
	}
	if c.onward == nil || c.onward.to != to || c.onward.arm != d.arm || c.onward.records != d.records {
		c.forgetOnward()
		g := &group{service: outside, metrics: make([]handles, 1)}
		switch {
		case d.group != nil:
			g.Group, g.service = d.group.NewLone(to.endpoint()), d.group.service
		case c.at.way.inward():
			g.Group = c.srv.apps.NewLone(to.endpoint())
		default:
			g.Group = c.srv.pools.NewLone(to.endpoint())
		}
		named := d.named
		if named == passThrough && c.at.way.inward() {
			named = inboundPassThrough
		}
		c.onward = &onward{destination: &destination{arm: d.arm, group: g, named: named, records: d.records}, to: to}
	}
	s.dest, s.chosen = c.onward.destination, c.onward.group.Endpoints[0]
	return true
}

// hostOf keeps the name of a host beyond its request; the same one again costs nothing.
func (c *conn) hostOf(host []byte) string {
	if c.onward != nil && c.onward.to.host == string(host) {
		return c.onward.to.host
	}
	return string(host)
}

// goOn sends a request of which nothing is known to where it was going.
func (s *stream) goOn() {
	if !s.goTo(s.role.captured.beyond, 80) {
		s.local(502, ReasonUnknownHost, FlagNoCluster)
		return
	}
	arm := s.dest.arm
	s.exchange = Exchange{
		Key: s.key, Seed: s.seed(), Edge: arm.Edge, Host: arm.Host, Port: s.chosen.Endpoint.Port, Caller: s.caller(), Request: &s.req,
	}
	if len(s.req.Host()) == 0 {
		s.edits.Set("host", s.c.dst.String())
	}
	switch {
	case !s.filter(AtRequest):
	case s.req.Method == http1.CONNECT:
		s.connectTunnel()
	default:
		s.carryOn()
	}
}

// comesBack reports whether a connection to where the mesh knows nothing leads to a listener of this sidecar, where every request would become another.
func (s *stream) comesBack(conn *upstream.Conn) bool {
	if o := s.c.onward; o == nil || o.destination != s.dest {
		return false
	}
	to, ok := conn.RemoteAddr().(*net.TCPAddr)
	from, also := conn.LocalAddr().(*net.TCPAddr)
	if !ok || !also {
		return false
	}
	port := strconv.Itoa(to.Port)
	everywhere := s.cfg.roles[":"+port] != nil || s.cfg.roles["0.0.0.0:"+port] != nil || s.cfg.roles["[::]:"+port] != nil
	return s.cfg.roles[to.String()] != nil || everywhere && from.IP.Equal(to.IP) // who calls himself has one address
}

// forgetOnward closes what the connection had to itself.
func (c *conn) forgetOnward() {
	if c.onward != nil {
		c.onward.group.Close()
	}
}
