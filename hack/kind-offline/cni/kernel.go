package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// ours marks routes as this daemon's, in the field for the routing protocol; 100 to 255 are nobody's by rt_protos.
	ours = netlink.RouteProtocol(107)
	// table is the name of this daemon's nftables table, one in each address family.
	table = "kind-offline"
)

// setRoutes makes this daemon's routes exactly these.
func setRoutes(want []route) error {
	wanted := map[string]bool{}
	for _, r := range want {
		wanted[r.to.String()] = true
		if err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(r.to), Gw: r.via.AsSlice(), Protocol: ours}); err != nil {
			return fmt.Errorf("setting the route to %v by %v: %w", r.to, r.via, err)
		}
	}
	have, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: ours}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("listing the routes: %w", err)
	}
	for _, r := range have {
		if wanted[r.Dst.String()] {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil {
			return fmt.Errorf("removing the route to %v: %w", r.Dst, err)
		}
	}
	return nil
}

// setMasquerade makes pods appear under the node's address towards everything that is not a pod, and under their own towards pods.
func setMasquerade(pods []netip.Prefix) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("speaking to nftables: %w", err)
	}
	for _, prefix := range pods {
		family := nftables.TableFamilyIPv4
		if prefix.Addr().Is6() {
			family = nftables.TableFamilyIPv6
		}
		// Added, deleted and added again in one transaction: what was there, if anything, is replaced.
		t := c.AddTable(&nftables.Table{Family: family, Name: table})
		c.DelTable(t)
		t = c.AddTable(t)
		chain := c.AddChain(&nftables.Chain{
			Name: "masquerade", Table: t, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: masquerade(prefix)})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("setting the nftables table %s: %w", table, err)
	}
	return nil
}

// masquerade is the rule "saddr PREFIX daddr != PREFIX masquerade".
func masquerade(prefix netip.Prefix) []expr.Any {
	source, destination := uint32(12), uint32(16) // offsets of the addresses in an IPv4 header
	if prefix.Addr().Is6() {
		source, destination = 8, 24
	}
	rule := within(prefix, source, expr.CmpOpEq)
	rule = append(rule, within(prefix, destination, expr.CmpOpNeq)...)
	return append(rule, &expr.Masq{})
}

// within compares the address at an offset of the network header, as far as the prefix says, with the prefix.
func within(prefix netip.Prefix, offset uint32, op expr.CmpOp) []expr.Any {
	n := ipNet(prefix)
	size := uint32(len(n.IP))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: n.Mask, Xor: make([]byte, size)},
		&expr.Cmp{Register: 1, Op: op, Data: n.IP},
	}
}

// uplinkMTU is the largest packet, in bytes, of the interface by which this node reaches the others: of the default route.
func uplinkMTU() (int, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return 0, fmt.Errorf("listing the routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				return 0, fmt.Errorf("reading the interface of the default route: %w", err)
			}
			return link.Attrs().MTU, nil
		}
	}
	return 0, fmt.Errorf("this node has no default route")
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
