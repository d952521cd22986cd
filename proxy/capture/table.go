package capture

import (
	"fmt"
	"net/netip"
	"strings"
)

// chain is a chain of the table. It begins at a hook of the kernel, or where another chain leads to it.
type chain struct {
	name  string
	hook  hook
	rules []rule
}

// hook is where in the kernel a chain begins.
type hook string

// The hooks; the empty one is none.
const (
	prerouting hook = "prerouting"
	output     hook = "output"
)

// rule says what becomes of connections that all matches take.
type rule struct {
	matches []match
	verdict verdict
}

// match is one test of the first packet of a connection. Its text is in nft's own words.
type match interface {
	fmt.Stringer
	expressions() expressions
}

// interfaceMatch takes what comes or goes by an interface, or does not.
type interfaceMatch struct {
	out, not bool
	name     string
}

func (m interfaceMatch) String() string {
	key, op := "iifname", ""
	if m.out {
		key = "oifname"
	}
	if m.not {
		op = "!= "
	}
	return fmt.Sprintf("%s %s%q", key, op, m.name)
}

// tcpMatch takes TCP, or everything else.
type tcpMatch struct{ not bool }

func (m tcpMatch) String() string {
	if m.not {
		return "meta l4proto != tcp"
	}
	return "meta l4proto tcp"
}

// ownerMatch takes what a user or group sends.
type ownerMatch struct {
	group bool
	id    uint32
}

func (m ownerMatch) String() string {
	if m.group {
		return fmt.Sprintf("meta skgid %d", m.id)
	}
	return fmt.Sprintf("meta skuid %d", m.id)
}

// portMatch takes what goes to a port.
type portMatch uint16

func (m portMatch) String() string { return fmt.Sprintf("tcp dport %d", uint16(m)) }

// addressMatch takes what goes to a range of addresses.
type addressMatch netip.Prefix

func (m addressMatch) String() string {
	p := netip.Prefix(m)
	family := "ip"
	if p.Addr().Is6() {
		family = "ip6"
	}
	if p.IsSingleIP() {
		return fmt.Sprintf("%s daddr %s", family, p.Addr())
	}
	return fmt.Sprintf("%s daddr %s", family, p)
}

// class is the differentiated services code point that marks the sidecar's connections to the application.
const class = 0x2b

// classMatch takes what is marked, of IPv4 or IPv6.
type classMatch struct{ four bool }

func (m classMatch) String() string {
	if m.four {
		return fmt.Sprintf("ip dscp %#x", class)
	}
	return fmt.Sprintf("ip6 dscp %#x", class)
}

// socketMatch takes what a socket of this namespace listens for, on one address or, as a wildcard, on all.
type socketMatch struct{ wildcard bool }

func (m socketMatch) String() string {
	if m.wildcard {
		return "socket wildcard 1"
	}
	return "socket wildcard 0"
}

// verdict says what becomes of a connection.
type verdict struct {
	kind verdictKind
	to   string // chain
	port int    // of a redirection
}

type verdictKind uint8

const (
	passVerdict     verdictKind = iota // it is left alone
	jumpVerdict                        // another chain decides, and else this one goes on
	throughVerdict                     // another chain decides
	redirectVerdict                    // it goes to a port of this machine
)

var pass = verdict{kind: passVerdict}

func jump(to string) verdict    { return verdict{kind: jumpVerdict, to: to} }
func through(to string) verdict { return verdict{kind: throughVerdict, to: to} }
func redirect(port int) verdict { return verdict{kind: redirectVerdict, port: port} }

func (v verdict) String() string {
	switch v.kind {
	case jumpVerdict:
		return "jump " + v.to
	case throughVerdict:
		return "goto " + v.to
	case redirectVerdict:
		return fmt.Sprintf("meta l4proto tcp redirect to :%d", v.port)
	default:
		return "return"
	}
}

// priority is that of destination NAT: before routing.
const priority = -100

func (h hook) String() string {
	name := "dstnat"
	if h == output {
		name = fmt.Sprint(priority) // nft has no name for it there
	}
	return fmt.Sprintf("type nat hook %s priority %s; policy accept;", string(h), name)
}

// textOf writes the table as nft does.
func textOf(chains []chain) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	for i, c := range chains {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.hook != "" {
			fmt.Fprintf(&b, "\t\t%s\n", c.hook)
		}
		for _, r := range c.rules {
			b.WriteString("\t\t")
			for _, m := range r.matches {
				b.WriteString(m.String() + " ")
			}
			b.WriteString(r.verdict.String() + "\n")
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}
