// Package load drives requests into the mesh: open loop, on a schedule that the answers cannot delay, and measured from
// that schedule.
//
// A [Pacer] says when the n-th request is intended; it is a pure function. A [Stream] says what is sent. [Run] sends it
// and hands over one [Record] per request, and a [Result] whose counts add up:
//
//	Scheduled = Sent + Unsent()        Sent = Completed + Unanswered
//
// A stream may be calls of gRPC: they have the same schedule and records, over HTTP/2.
//
// Package load/agent sends a stream from somewhere else, with the same meaning.
//
// Latency counts from the intended time, so a server that stalls, and a generator that falls behind, both show in the
// numbers instead of silently thinning them out (coordinated omission).
//
// The requests are driven by vegeta's Attacker. What it does by itself would bend the measurement in these places, so
// load takes them over:
//
//   - An Attacker is single-use: every Run makes its own.
//   - Its latency starts when a worker picks the request up: the intended time comes from the Pacer and the sequence
//     number instead. The number is read from X-Vegeta-Seq in the RoundTripper; a Targeter cannot know it.
//   - Its pacers place the first hit one interval late, step once per second and truncate the interval, and its duration
//     cuts off hits that are due but late: it gets a pacer of ours without a duration, which waits by itself, can
//     be interrupted, and ends the schedule at exactly the hits before Duration.
//   - It starts workers without bound, and several at once while a new one is not yet ready: the pool is fixed at
//     Stream.MaxInFlight. When all are busy, requests are late; they are sent as soon as a worker is free, in a burst
//     if need be, they count from their intended time, and Result says how many there were.
//   - Its results channel is unbuffered and a slow reader stalls the workers: it is drained by a loop that does nothing
//     else. Records take a queue of their own.
//   - It follows redirects, takes a proxy from the environment, binds 0.0.0.0, keeps whole bodies, and its options
//     depend on their order: it gets one ready HTTP client, and bodies are read and counted but not kept.
//   - It knows errors as text only, and X-Vegeta-* headers go out on the wire: both are dealt with in the RoundTripper.
package load
