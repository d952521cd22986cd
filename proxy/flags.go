package proxy

import "strings"

// Flags are Envoy's response flags: what the mesh itself did to a request or noticed about it, as in the label response_flags and the access log. The zero value is
// a request without incident.
type Flags uint32

// The flags, with Envoy's abbreviations.
const (
	FlagUpstreamFailure      Flags = 1 << iota // UF: no connection to the upstream
	FlagNoHealthyUpstream                      // UH
	FlagNoRoute                                // NR
	FlagNoCluster                              // NC: the route leads to a destination that is not there
	FlagUpstreamTimeout                        // UT: the route's timeout
	FlagUpstreamTermination                    // UC: the upstream closed the connection
	FlagUpstreamProtocol                       // UPE
	FlagUpstreamOverflow                       // UO: a limit of connections or requests
	FlagRetriesExceeded                        // URX
	FlagFaultInjected                          // FI: an injected fault answered
	FlagDelayInjected                          // DI: an injected fault held the request back
	FlagDownstreamTerminated                   // DC: the caller went away
	FlagDownstreamProtocol                     // DPE
	FlagRateLimited                            // RL
	FlagOverload                               // OM: the sidecar itself was over a limit
	FlagDurationTimeout                        // DT: the request or its header took too long to arrive
	numFlags                 = iota
)

var flagNames = [numFlags]string{"UF", "UH", "NR", "NC", "UT", "UC", "UPE", "UO", "URX", "FI", "DI", "DC", "DPE", "RL", "OM", "DT"}

// String gives the abbreviations, separated by commas; "-" when there is none.
func (f Flags) String() string {
	var names []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if names == nil {
		return "-"
	}
	return strings.Join(names, ",")
}
