package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Where things are in a namespace with a sidecar; the numbers are Istio's where Istio has them.
const (
	Table = "meshtest" // name of the nftables table, of family inet

	DefaultOutboundPort = 15001 // of the listener for what the application sends out
	DefaultInboundPort  = 15006 // of the listener for what comes from outside
	DefaultOwner        = 1337  // user and group that the sidecar runs as
)

// SidecarPorts are the ports of the sidecar itself; nobody who connects to them is redirected: capture, administration, leases and evidence, metrics, readiness.
func SidecarPorts() []int {
	return []int{15000, DefaultOutboundPort, DefaultInboundPort, 15009, 15020, 15021}
}

// Rules say what is redirected. The zero value redirects everything to the default ports.
type Rules struct {
	InboundPort  int    // of the sidecar's listener; 0: DefaultInboundPort
	OutboundPort int    // of the sidecar's listener; 0: DefaultOutboundPort
	Owner        uint32 // user that the sidecar runs as, whose traffic is left alone; 0: DefaultOwner
	Group        uint32 // group that the sidecar runs as; 0: DefaultOwner

	// Unheard redirects also what comes for ports that nobody listens on. Without it such a connection is refused by the kernel, as it would be without a sidecar: a probe that only
	// connects tells the truth about the application. Kernels before Linux 5.12, or without NFT_SOCKET, can only do with it.
	Unheard bool

	ExcludeInboundPorts  []int          // ports of the namespace that are reached without the sidecar
	ExcludeOutboundPorts []int          // ports elsewhere that are reached without the sidecar
	ExcludeOutboundCIDRs []netip.Prefix // addresses elsewhere that are reached without the sidecar
	ExcludeUIDs          []uint32       // users whose traffic out is left alone
	ExcludeGIDs          []uint32       // groups whose traffic out is left alone
}

// Validate returns everything that is wrong with the rules, joined; nil when they can be installed.
func (r Rules) Validate() error {
	r = r.withDefaults()
	var errs []error
	for _, group := range []struct {
		name  string
		ports []int
	}{
		{"listener", []int{r.InboundPort, r.OutboundPort}}, {"excluded inbound", r.ExcludeInboundPorts}, {"excluded outbound", r.ExcludeOutboundPorts},
	} {
		for _, port := range group.ports {
			if port < 1 || port > 65535 {
				errs = append(errs, fmt.Errorf("%s port %d is not between 1 and 65535", group.name, port))
			}
		}
	}
	if r.InboundPort == r.OutboundPort {
		errs = append(errs, fmt.Errorf("both directions cannot go to port %d: inbound and outbound need listeners of their own", r.InboundPort))
	}
	for _, prefix := range r.ExcludeOutboundCIDRs {
		if !prefix.IsValid() {
			errs = append(errs, errors.New("an excluded range of addresses is not valid"))
		}
	}
	return errors.Join(errs...)
}

func (r Rules) withDefaults() Rules {
	if r.InboundPort == 0 {
		r.InboundPort = DefaultInboundPort
	}
	if r.OutboundPort == 0 {
		r.OutboundPort = DefaultOutboundPort
	}
	if r.Owner == 0 {
		r.Owner = DefaultOwner
	}
	if r.Group == 0 {
		r.Group = DefaultOwner
	}
	return r
}

// String writes the rules as `nft list table` shows them once they are installed.
func (r Rules) String() string { return textOf(r.chains()) }

// The chains' names.
const (
	inboundChain    = "inbound"    // to the inbound listener
	sidecarChain    = "sidecar"    // what the sidecar sends
	preroutingChain = "prerouting" // what comes
	outputChain     = "output"     // what is sent here
)

// chains are the rules as a table: a pure function. A chain comes after those that it leads to.
func (r Rules) chains() []chain {
	r = r.withDefaults()
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	return []chain{
		{name: inboundChain, rules: slices.Concat(
			passing(ports(append(append(SidecarPorts(), r.InboundPort, r.OutboundPort), r.ExcludeInboundPorts...))),
			[]rule{{verdict: redirect(r.InboundPort)}},
		)},
		{name: sidecarChain, rules: slices.Concat(
			[]rule{{[]match{interfaceMatch{out: true, not: true, name: "lo"}}, pass}},
			passing(addresses(loopback)),
			[]rule{{[]match{classMatch{four: true}}, pass}, {[]match{classMatch{}}, pass}},
			[]rule{{verdict: jump(inboundChain)}},
		)},
		{name: preroutingChain, hook: prerouting, rules: append(
			[]rule{{[]match{interfaceMatch{name: "lo"}}, pass}},
			r.heard()...,
		)},
		{name: outputChain, hook: output, rules: slices.Concat(
			[]rule{
				{[]match{tcpMatch{not: true}}, pass},
				{[]match{ownerMatch{id: r.Owner}}, through(sidecarChain)},
				{[]match{ownerMatch{group: true, id: r.Group}}, through(sidecarChain)},
				{[]match{interfaceMatch{out: true, name: "lo"}}, pass},
			},
			passing(addresses(loopback)),
			passing(owners(r.ExcludeUIDs, false)),
			passing(owners(r.ExcludeGIDs, true)),
			passing(ports(r.ExcludeOutboundPorts)),
			passing(addresses(r.ExcludeOutboundCIDRs)),
			[]rule{{verdict: redirect(r.OutboundPort)}},
		)},
	}
}

// heard are the rules that lead to the inbound listener.
func (r Rules) heard() []rule {
	if r.Unheard {
		return []rule{{[]match{tcpMatch{}}, jump(inboundChain)}}
	}
	return []rule{
		{[]match{tcpMatch{}, socketMatch{}}, jump(inboundChain)},
		{[]match{tcpMatch{}, socketMatch{wildcard: true}}, jump(inboundChain)},
	}
}

// passing leaves alone what any of the matches takes.
func passing(matches []match) []rule {
	var rules []rule
	for _, m := range matches {
		rules = append(rules, rule{[]match{m}, pass})
	}
	return rules
}

func ports(numbers []int) []match {
	numbers = slices.Clone(numbers)
	slices.Sort(numbers)
	var all []match
	for _, n := range slices.Compact(numbers) {
		all = append(all, portMatch(n))
	}
	return all
}

func addresses(prefixes []netip.Prefix) []match {
	var all []match
	for _, p := range prefixes {
		all = append(all, addressMatch(p.Masked()))
	}
	return all
}

func owners(ids []uint32, group bool) []match {
	var all []match
	for _, id := range ids {
		all = append(all, ownerMatch{group, id})
	}
	return all
}
