// Package telemetry is what the proxy remembers of the traffic it carried, and tells: Istio's standard metrics ([Metrics]), its own counters ([Counters]), the evidence on which
// versions are judged ([Evidence]), and an access log ([AccessLog]). Who sends is told in a header ([AppendPeer]) and resolved once per connection ([PeerCache]).
//
// Whoever carries traffic resolves a handle once per kind of traffic and records into it: no label is hashed per request, nothing is allocated, and nobody who reads can hold up
// traffic.
package telemetry
