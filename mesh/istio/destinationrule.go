package istio

import (
	"maps"
	"slices"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// destinationRule adds policy and subsets to a service.
func (c *compiler) destinationRule(o *object, spec *networking.DestinationRule) {
	path := join(o.path, "host")
	known := c.host(o, path, spec.GetHost())
	if known == nil || !c.claim(o, path, known.Host) {
		return
	}
	svc := *known
	svc.Traffic = c.trafficPolicy(o, join(o.path, "trafficPolicy"), spec.GetTrafficPolicy(), known.Traffic)
	svc.Subsets = nil
	names := map[string]bool{}
	for i, s := range spec.GetSubsets() {
		at := index(join(o.path, "subsets"), i)
		switch {
		case s.GetName() == "":
			o.Problem(CodeInvalid, at, "", "the field %q is missing", "name")
		case names[s.GetName()]:
			o.Problem(CodeConflict, join(at, "name"), "", "there is another subset named %q", s.GetName())
		}
		names[s.GetName()] = true
		subset := mesh.Subset{Name: s.GetName(), Labels: maps.Clone(mesh.Labels(s.GetLabels()))}
		if s.GetTrafficPolicy() != nil {
			// Istio lets a subset's load balancer, connection pool, outlier detection and TLS override the host's, each as a whole: what the subset leaves out comes from the host.
			own := c.trafficPolicy(o, join(at, "trafficPolicy"), s.GetTrafficPolicy(), svc.Traffic)
			subset.Traffic = &own
		}
		svc.Subsets = append(svc.Subsets, subset)
	}
	for _, implicit := range known.Subsets {
		sameVersion := func(s mesh.Subset) bool {
			return s.Labels[mesh.LabelVersion] == implicit.Labels[mesh.LabelVersion]
		}
		if slices.ContainsFunc(svc.Subsets, sameVersion) {
			continue
		}
		if names[implicit.Name] {
			o.Problem(CodeConflict, join(o.path, "subsets"), "name the subset after the version it selects", "the subset %q does not select the version %q",
				implicit.Name, implicit.Labels[mesh.LabelVersion])
			continue
		}
		svc.Subsets = append(svc.Subsets, implicit)
	}
	c.rules.Services[svc.Host] = &svc
}

// atLeast1ms reports a duration that Istio refuses.
func (o *object) atLeast1ms(path string, d time.Duration) time.Duration {
	if d < time.Millisecond {
		o.Problem(CodeInvalid, path, "", "must be at least 1ms")
	}
	return d
}
