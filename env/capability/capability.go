// Package capability names what an environment can do and what a plan needs, so that a scenario that cannot run somewhere is refused before anything starts.
package capability

import (
	"maps"
	"slices"
	"strings"
)

// Capability is the name of something that an environment can do.
type Capability string

// Capabilities. An environment declares what it has; a plan says what it needs and why.
const (
	Fixture         Capability = "fixture"          // run the sample applications
	Command         Capability = "command"          // run any program of this machine
	Image           Capability = "image"            // run a container image
	Manifest        Capability = "manifest"         // apply Kubernetes objects
	HTTP            Capability = "http"             // carry HTTP in all its versions, and gRPC
	TCP             Capability = "tcp"              // carry TCP, and TLS as it is
	External        Capability = "external"         // run services outside the mesh
	PrivilegedPorts Capability = "privileged-ports" // serve on ports below 1024
	FaultAbort      Capability = "fault-abort"      // answer instead of a service
	FaultDelay      Capability = "fault-delay"      // hold requests back
	PodKill         Capability = "pod-kill"         // delete pods of a service
	NodeDrain       Capability = "node-drain"       // drain the nodes that a service's pods are on
	ControlKill     Capability = "control-kill"     // end the control plane, which comes back
	Scale           Capability = "scale"            // change the number of a workload's replicas while it runs
)

// Set is a set of capabilities.
type Set map[Capability]bool

// Of returns the set of the given capabilities.
func Of(capabilities ...Capability) Set {
	s := Set{}
	for _, c := range capabilities {
		s[c] = true
	}
	return s
}

// Has reports whether the capability is in the set.
func (s Set) Has(c Capability) bool { return s[c] }

// Names lists the set's capabilities, sorted.
func (s Set) Names() []Capability {
	var names []Capability
	for _, c := range slices.Sorted(maps.Keys(s)) {
		if s[c] {
			names = append(names, c)
		}
	}
	return names
}

// String returns the names, comma-separated.
func (s Set) String() string {
	var names []string
	for _, c := range s.Names() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

// Requirement is a capability that something needs, and why.
type Requirement struct {
	Capability Capability `json:"capability"`
	Reason     string     `json:"reason"`         // who needs it, such as "service frontend runs on port 80"
	Path       string     `json:"path,omitempty"` // where the scenario says so, dotted
}

// Missing returns the requirements that the set does not meet, in their order.
func (s Set) Missing(needs []Requirement) []Requirement {
	var missing []Requirement
	for _, n := range needs {
		if !s.Has(n.Capability) {
			missing = append(missing, n)
		}
	}
	return missing
}
