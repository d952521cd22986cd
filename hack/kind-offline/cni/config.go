package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// configFile is where container runtimes look for the pod network; this folder is the node's, mounted.
const configFile = "/etc/cni/net.d/10-kind-offline.conflist"

type object = map[string]any

// conflist is a node's network configuration, version 1.0.0 of the Container Network Interface: one point-to-point link for each pod, with
// addresses of the node's own ranges.
func conflist(own []netip.Prefix, mtu int) ([]byte, error) {
	var ranges [][]object
	var routes []object
	for _, prefix := range own {
		ranges = append(ranges, []object{{"subnet": prefix.String()}})
		everywhere := "0.0.0.0/0"
		if prefix.Addr().Is6() {
			everywhere = "::/0"
		}
		routes = append(routes, object{"dst": everywhere})
	}
	return json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "kind-offline",
		"plugins": []object{
			{
				"type":   "ptp",
				"ipMasq": false, // it would hide pods from each other; see setMasquerade
				"mtu":    mtu,
				"ipam": object{
					"type":    "host-local",
					"dataDir": "/run/cni-ipam-state", // empty after a restart of the node, as its pods are
					"ranges":  ranges,
					"routes":  routes,
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
}

// writeConfig replaces the configuration in one step, and only when it differs, because the runtime reloads it at each write.
func writeConfig(own []netip.Prefix, mtu int) error {
	want, err := conflist(own, mtu)
	if err != nil {
		return fmt.Errorf("making the network configuration: %w", err)
	}
	if have, err := os.ReadFile(configFile); err == nil && string(have) == string(want) {
		return nil
	}
	partial := filepath.Join(filepath.Dir(configFile), ".kind-offline.partial")
	if err := os.WriteFile(partial, want, 0o644); err != nil {
		return fmt.Errorf("writing the network configuration: %w", err)
	}
	if err := os.Rename(partial, configFile); err != nil {
		return fmt.Errorf("writing the network configuration: %w", err)
	}
	return nil
}
