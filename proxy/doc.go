// Package proxy carries the traffic: a [Server] is the data plane of one sidecar, from the listeners beside a workload to the endpoints of its upstreams.
//
// # The way of a request
//
// A listener is inbound (to the application), outbound (to one upstream, whatever authority the request carries) or an http_proxy (the authority decides). A listener for captured traffic is all of that:
// what a connection is for follows from where it was going. One goroutine carries a connection, and one request after the other:
//
//	read the head (http1) -> key, token and trace context -> rule and arm (route) -> filters at the request
//	  -> attempts: filters at the attempt -> endpoint and connection (upstream) -> write, read the answer's head -> again?
//	  -> changes of the answer's head -> body, window by window -> evidence and metrics (telemetry)
//
// A second goroutine lives only while a body is streamed up or a tunnel is open. Everything that a request needs of the configuration was resolved when that was applied, but for the
// connections and counters of a destination that nobody has called yet: the first request makes them. A request loads one pointer, and finishes on what it found there. A request that is carried without incident allocates nothing.
//
// # Decisions
//
//   - A stream is all the memory of a request in flight, and is lent to a connection for one request; an idle connection holds a goroutine and little else.
//   - A wait is ended by interrupting what it waits on, from an alarm whose timer moves only when a deadline comes earlier than any before: no deadline call per request.
//   - A caller who closes while he waits for an answer has gone, half-closed or not, as for Envoy: the upstream's work is given up within a quarter of a second.
//   - What the codec refuses was answered, so it is counted, logged and traced like any request; who leaves before his head is whole asked for nothing.
//   - Small bodies are sent with their head, and kept for retries up to 64 KiB; what is longer is streamed and sent once.
//   - A kept connection that dies before it answered an idempotent request is replaced without counting as an attempt. Each is looked at before it is used again: what an upstream said unasked would be somebody else's answer.
//   - An answer that cannot be completed ends the connection, so that it does not look whole.
//   - A panic ends its connection, not the sidecar.
package proxy
