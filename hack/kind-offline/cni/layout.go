package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// A route leads to the pods of another node.
type route struct {
	to  netip.Prefix
	via netip.Addr
}

var errNoRange = errors.New("the controller manager has not given this node its range of pod addresses")

// layout says which ranges of pod addresses are this node's own, and how the others' are reached. A node that has no range or no address yet
// has no route yet.
func layout(self string, nodes []*corev1.Node) (own []netip.Prefix, routes []route, err error) {
	for _, node := range nodes {
		ranges, err := prefixes(node.Spec.PodCIDRs)
		if err != nil {
			return nil, nil, fmt.Errorf("reading the ranges of node %s: %w", node.Name, err)
		}
		if node.Name == self {
			own = ranges
			continue
		}
		for _, to := range ranges {
			if via, known := address(node, to.Addr().Is4()); known {
				routes = append(routes, route{to, via})
			}
		}
	}
	if len(own) == 0 {
		return nil, nil, errNoRange
	}
	slices.SortFunc(routes, func(a, b route) int { return cmp.Compare(a.to.String(), b.to.String()) })
	return own, routes, nil
}

// address is a node's internal address of one family.
func address(node *corev1.Node, v4 bool) (netip.Addr, bool) {
	for _, a := range node.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); a.Type == corev1.NodeInternalIP && err == nil && ip.Is4() == v4 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	all := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Masked())
	}
	return all, nil
}
