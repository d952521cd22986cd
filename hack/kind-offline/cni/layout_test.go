package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func node(name string, ranges []string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: ranges}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func TestLayout(t *testing.T) {
	t.Parallel()
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for name, c := range map[string]struct {
		nodes  []*corev1.Node
		own    []netip.Prefix
		routes []route
		err    string
	}{
		"one node": {
			nodes: []*corev1.Node{node("a", []string{"10.244.0.0/24"}, "172.18.0.2")},
			own:   []netip.Prefix{prefix("10.244.0.0/24")},
		},
		"three nodes, one without a range yet": {
			nodes: []*corev1.Node{
				node("c", []string{"10.244.2.0/24"}, "172.18.0.4"), node("d", nil, "172.18.0.5"),
				node("a", []string{"10.244.0.0/24"}, "172.18.0.2"), node("b", []string{"10.244.1.0/24"}, "172.18.0.3"),
			},
			own:    []netip.Prefix{prefix("10.244.0.0/24")},
			routes: []route{{prefix("10.244.1.0/24"), addr("172.18.0.3")}, {prefix("10.244.2.0/24"), addr("172.18.0.4")}},
		},
		"both families, each by its own address": {
			nodes: []*corev1.Node{
				node("a", []string{"10.244.0.0/24", "fd00:10:244::/64"}, "172.18.0.2", "fc00::2"),
				node("b", []string{"10.244.1.0/24", "fd00:10:244:1::/64"}, "fc00::3", "172.18.0.3"),
			},
			own:    []netip.Prefix{prefix("10.244.0.0/24"), prefix("fd00:10:244::/64")},
			routes: []route{{prefix("10.244.1.0/24"), addr("172.18.0.3")}, {prefix("fd00:10:244:1::/64"), addr("fc00::3")}},
		},
		"another node without an address yet": {
			nodes: []*corev1.Node{node("a", []string{"10.244.0.0/24"}), node("b", []string{"10.244.1.0/24"})},
			own:   []netip.Prefix{prefix("10.244.0.0/24")},
		},
		"no range of its own yet": {nodes: []*corev1.Node{node("a", nil, "172.18.0.2")}, err: errNoRange.Error()},
		"not in the list":         {nodes: []*corev1.Node{node("b", []string{"10.244.1.0/24"}, "172.18.0.3")}, err: errNoRange.Error()},
		"a range that is none":    {nodes: []*corev1.Node{node("b", []string{"10.244.1.0"})}, err: "reading the ranges of node b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own, routes, err := layout("a", c.nodes)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.own, own)
			require.Equal(t, c.routes, routes)
		})
	}
}

func TestConflist(t *testing.T) {
	t.Parallel()
	own, err := prefixes([]string{"10.244.1.0/24", "fd00:10:244:1::/64"})
	require.NoError(t, err)
	text, err := conflist(own, 1450)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"cniVersion": "1.0.0", "name": "kind-offline",
		"plugins": [
			{"type": "ptp", "ipMasq": false, "mtu": 1450, "ipam": {
				"type": "host-local", "dataDir": "/run/cni-ipam-state",
				"ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]],
				"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
			{"type": "portmap", "capabilities": {"portMappings": true}}
		]}`, string(text))
	again, err := conflist(own, 1450)
	require.NoError(t, err)
	require.Equal(t, text, again)
	require.True(t, json.Valid(text))
}

func TestMasqueradeComparesSourceAndDestination(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ source, destination, size uint32 }{
		"10.244.0.0/16":    {12, 16, 4},
		"fd00:10:244::/56": {8, 24, 16},
	} {
		prefix := netip.MustParsePrefix(text)
		rule := masquerade(prefix)
		require.Len(t, rule, 7)
		require.Equal(t, want.source, rule[0].(*expr.Payload).Offset, text)
		require.Equal(t, want.size, rule[0].(*expr.Payload).Len, text)
		require.Equal(t, expr.CmpOpEq, rule[2].(*expr.Cmp).Op)
		require.Equal(t, want.destination, rule[3].(*expr.Payload).Offset, text)
		require.Equal(t, expr.CmpOpNeq, rule[5].(*expr.Cmp).Op)
		require.Equal(t, prefix.Addr().AsSlice(), rule[5].(*expr.Cmp).Data, text)
		require.Len(t, rule[1].(*expr.Bitwise).Mask, int(want.size), text)
		require.IsType(t, &expr.Masq{}, rule[6])
	}
}

func TestFollowSeesNodesComeAndGoAndTriesAgain(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(node("a", []string{"10.244.0.0/24"}, "172.18.0.2"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen, failures := make(chan int), make(chan error, 1)
	failures <- errors.New("the kernel is busy") // once
	ended := make(chan error, 1)
	go func() {
		ended <- follow(ctx, client, func(nodes []*corev1.Node) error {
			select {
			case err := <-failures:
				return err
			default:
			}
			select {
			case seen <- len(nodes):
			case <-ctx.Done():
			}
			return nil
		})
	}()
	await := func(n int) {
		for got := range seen {
			if got == n {
				return
			}
		}
	}
	await(1) // after the failure, without any change of a node
	_, err := client.CoreV1().Nodes().Create(ctx, node("b", nil), metav1.CreateOptions{})
	require.NoError(t, err)
	await(2)
	require.NoError(t, client.CoreV1().Nodes().Delete(ctx, "b", metav1.DeleteOptions{}))
	await(1)
	cancel()
	require.NoError(t, <-ended)
}
