package inject

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"meshtest.dev/meshtest/env/kube/names"
)

// exclusion is a list by which a pod keeps traffic away from its sidecar: the annotations that hold it, ours and Istio's, and the capture container's flag.
type exclusion struct {
	annotations []string
	flag        string
	parse       func(item string) (string, error)
}

var exclusions = []exclusion{
	{[]string{names.AnnotationExcludeInboundPorts, names.IstioExcludeInboundPorts}, "--exclude-inbound-ports", parsePort},
	{[]string{names.AnnotationExcludeOutboundPorts, names.IstioExcludeOutboundPorts}, "--exclude-outbound-ports", parsePort},
	{[]string{names.AnnotationExcludeOutboundCIDRs, names.IstioExcludeOutboundIPRange}, "--exclude-outbound-cidrs", parseCIDR},
	{[]string{names.AnnotationExcludeUIDs}, "--exclude-uids", parseUID},
}

// excludeArgs are the capture container's flags for what the annotations exclude.
func excludeArgs(annotations map[string]string) (args []string, problems Problems) {
	for _, x := range exclusions {
		var values []string
		for _, key := range x.annotations {
			for item := range strings.SplitSeq(annotations[key], ",") {
				if item = strings.TrimSpace(item); item == "" {
					continue
				}
				value, err := x.parse(item)
				if err != nil {
					problems = append(problems, Problem{Path: Path{"metadata", "annotations", key}, Message: err.Error()})
					continue
				}
				values = append(values, value)
			}
		}
		if len(values) > 0 {
			args = append(args, x.flag+"="+strings.Join(values, ","))
		}
	}
	return args, problems
}

func parsePort(item string) (string, error) {
	port, err := strconv.ParseUint(item, 10, 16)
	if err != nil || port == 0 {
		return "", fmt.Errorf("%q is no port between 1 and 65535", item)
	}
	return strconv.FormatUint(port, 10), nil
}

func parseCIDR(item string) (string, error) {
	if address, err := netip.ParseAddr(item); err == nil && address.Zone() == "" {
		return netip.PrefixFrom(address, address.BitLen()).String(), nil
	}
	prefix, err := netip.ParsePrefix(item)
	if err != nil {
		return "", fmt.Errorf("%q is no range of addresses such as 10.0.0.0/8", item)
	}
	return prefix.Masked().String(), nil
}

func parseUID(item string) (string, error) {
	uid, err := strconv.ParseUint(item, 10, 32)
	if err != nil {
		return "", fmt.Errorf("%q is no user id", item)
	}
	return strconv.FormatUint(uid, 10), nil
}
