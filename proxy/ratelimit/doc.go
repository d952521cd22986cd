// Package ratelimit holds callers, in the middle of the proxy's work, to the number of requests that they may make: token buckets by key in each sidecar by itself, as Envoy's local rate limit has them.
//
// A [Limiter] is the compiled form of the [mesh.RateLimit]s of a workload, or of a service that others stand before. Time comes in with each question, on any clock that starts anywhere and does not run backwards; the answer is a [Verdict],
// and whoever asked carries it out.
//
// # What is promised
//
//   - In no stretch of time t does a bucket allow more than Burst + t*Requests/Per requests, exactly: levels are whole numbers of a unit in which nothing has to be rounded, so nothing drifts.
//   - A request takes a token of every limit that matches it, or of none: one that is refused costs nothing anywhere. The first limit in order that has no token is the one that refuses.
//   - Without Caller and Header a limit has one bucket. With both it has one for each pair. Requests that lack the header share a bucket of their own, so that nobody escapes a limit by leaving it out
//     (in Envoy they do); a header that occurs several times has one value, as everywhere in the mesh: all of them joined by commas.
//   - Memory is bounded whatever callers send: a limit remembers at most [MaxKeys] buckets, by a keyed 64-bit hash. The least recently used one goes first. One that was full again is no loss, since a new bucket is
//     full too; one that was not is counted as an eviction, because its key starts again with a full bucket.
//   - A limit whose name and numbers stay keeps its buckets from one configuration to the next.
//   - Asking allocates nothing for keys that are known.
package ratelimit
