// Package agent sends load from somewhere else, from inside a cluster for instance: [Serve] runs there and does what load.Run does here, and a [Client] drives it as if it were
// load.Run. What both promise is one contract, which package loadtest checks.
//
// # Protocol
//
// One connection carries one stream of load, and is all that holds it: when the connection ends, or its driver falls silent for [Silence], the load is over at once. The way
// there is the caller's business, typically a port-forward, which also keeps what is said from others; a token, compared in constant time, says who may.
//
//	client                                agent
//	hello  version, token            ->
//	                                 <-   welcome version                or failure
//	ping                             ->   (a few times)
//	                                 <-   pong    the agent's clock
//	start  the stream                ->
//	beat   every second              ->
//	                                 <-   records a batch every 50 ms; a first failure at once
//	                                 <-   beat    every second without records
//	stop   at most once              ->
//	                                 <-   result                         or failure
//	                                      the client closes
//
// A frame is its length as 4 bytes (big endian, of what follows), one byte that says what it is, and the rest. Frames are bounded; everything is checked when it is read.
// Rare frames are JSON. Records are packed into varints, some 12 bytes for one without an error, because there are thousands in a second.
//
// Why not gRPC or HTTP: the conversation goes both ways at the same time, its liveness is its meaning, and it needs neither names nor routing nor several streams in one connection.
// HTTP/1.1 is not made to answer while it is still asked, and gRPC would bring generated code and five megabytes into the agent, and another clock and flow control between
// the load and its driver, for six kinds of frames.
//
// # Time
//
// Records count from the start of the load, on the agent's monotonic clock. When that was on the client's clock is estimated as NTP does it (RFC 5905, section 8): of
// a few exchanges the one with the shortest round trip counts, and half of that round trip bounds the error, whatever share of it either direction took. Result.StartError is that bound.
package agent
