package route

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// names maps what callers write to places of tables. Routers that have the same hosts and ports share it.
type names struct {
	ports []port // by place, sorted by name
	exact map[hostPort]int
	hosts map[string][]placed // ports by alias, and by what follows the star of a wildcard
	wild  bool                // there are wildcards
}

type hostPort struct {
	host string
	port int
}

// port is one port of a host.
type port struct {
	name string // of its resources
	hostPort
}

// placed is where the table of a port is.
type placed struct{ port, place int }

// namesOf returns the names of a snapshot: the earlier router's, if they are the same.
func namesOf(prev *Router, s *mesh.Snapshot, namespace string) *names {
	if prev != nil && prev.names.cover(s) {
		return prev.names
	}
	all := make(map[string]hostPort, len(s.Endpoints)+len(s.Routes))
	for name, e := range s.Endpoints {
		all[name] = hostPort{e.Host, e.Port}
	}
	for name, t := range s.Routes {
		all[name] = hostPort{t.Host, t.Port}
	}
	n := &names{ports: make([]port, 0, len(all)), exact: make(map[hostPort]int, len(all)), hosts: map[string][]placed{}}
	byHost := map[string][]placed{}
	for place, name := range slices.Sorted(maps.Keys(all)) {
		at := all[name]
		n.ports = append(n.ports, port{name, at})
		n.exact[at] = place
		byHost[at.host] = append(byHost[at.host], placed{at.port, place})
	}
	for _, host := range slices.Sorted(maps.Keys(byHost)) {
		if suffix, is := strings.CutPrefix(host, "*"); is {
			n.hosts[suffix], n.wild = byHost[host], true
			continue
		}
		for _, alias := range mesh.Aliases(host, namespace) {
			n.hosts[alias] = byHost[host]
		}
	}
	maps.Copy(n.hosts, byHost) // a full name means itself, whatever else has it as an alias
	return n
}

// resource is the name of the resources of a port, the same string for all who ask.
func (n *names) resource(host string, number int) string {
	if place, ok := n.exact[hostPort{host, number}]; ok {
		return n.ports[place].name
	}
	return mesh.HostPort(host, number)
}

// place is that of the table of a resource.
func (n *names) place(name string) (place int, ok bool) {
	return slices.BinarySearchFunc(n.ports, name, func(p port, name string) int { return strings.Compare(p.name, name) })
}

// cover reports whether the snapshot names the same ports of hosts.
func (n *names) cover(s *mesh.Snapshot) bool {
	found := 0
	for name := range s.Endpoints {
		if _, ok := n.place(name); !ok {
			return false
		}
		found++
	}
	for name := range s.Routes {
		if _, ok := n.place(name); !ok {
			return false
		}
		if s.Endpoints[name] == nil {
			found++
		}
	}
	return found == len(n.ports)
}

// maxAuthority bounds the authorities that can name something: a DNS name has at most 253 characters, and a port with its colon 6.
const maxAuthority = 260

// find returns the place of the table that an authority means, -1 when it means none. One without a port means the one that is given; 0: that is to be found out.
func (n *names) find(tables []*Table, authority []byte, unspoken int) int {
	var space [maxAuthority]byte
	host, number := splitAuthority(authority)
	if len(host) > maxAuthority || number < 0 {
		return -1
	}
	folded := space[:len(host)]
	for i, c := range host {
		folded[i] = lower(c)
	}
	ports := n.named(folded)
	if number == 0 {
		number = unspoken
	}
	if number == 0 {
		return unsaid(tables, ports)
	}
	for _, p := range ports {
		if p.port == number {
			return p.place
		}
	}
	return -1
}

// named are the ports of a host, in lower case: its own, or those of the longest wildcard that it has.
func (n *names) named(host []byte) []placed {
	if len(host) > 0 && host[0] == '.' {
		return nil
	}
	ports, known := n.hosts[string(host)]
	if known || !n.wild {
		return ports
	}
	for i, c := range host {
		if c == '.' {
			if ports, known = n.hosts[string(host[i:])]; known {
				return ports
			}
		}
	}
	return nil
}

// unsaid is the place of the port that is meant when an authority names none: 80, or else the only HTTP port.
func unsaid(tables []*Table, ports []placed) int {
	only := -1
	for _, p := range ports {
		switch {
		case p.port == 80:
			return p.place
		case !tables[p.place].Protocol.IsHTTP():
		case only >= 0:
			only = -2
		case only == -1:
			only = p.place
		}
	}
	return max(only, -1)
}

// splitAuthority cuts host[:port], where the host may be an IPv6 literal in brackets, and the final dot of a host. The port is 0 when there is none and -1 when it is none.
func splitAuthority(authority []byte) (host []byte, port int) {
	host = authority
	if i := bytes.LastIndexByte(authority, ':'); i >= 0 && bytes.IndexByte(authority[i:], ']') < 0 {
		host, port = authority[:i], number(authority[i+1:])
	}
	if n := len(host); n >= 2 && host[0] == '[' && host[n-1] == ']' {
		return host[1 : n-1], port
	}
	return bytes.TrimSuffix(host, []byte(".")), port
}

// number reads a port, 1 to 65535; -1 for anything else.
func number(digits []byte) int {
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' || n > 65535 {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	if n == 0 || n > 65535 {
		return -1
	}
	return n
}
