// Package proxy carries the traffic: a [Server] is the data plane of one sidecar, from the listeners beside a workload to the endpoints of its upstreams.
package proxy
