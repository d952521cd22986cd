// Package http2 lets the proxy's core carry HTTP/2 without knowing it: a connection of HTTP/2 is seen as many connections that each carry one exchange of HTTP/1.1.
//
// The core reads and writes HTTP/1.1 through [http1]; a [Stream] turns its bytes into frames and frames into its bytes, strictly and in both directions, with x/net's Framer and HPACK and nothing else of
// that package. So there is one routing and filter core, HTTP/1.1 and HTTP/2 meet in one place, and what passes from one to the other has been judged by both codecs.
//
// A [Server] is the near side: it takes a caller's connection, and hands each request to a function as a Stream. A [Client] is the far side: it keeps one connection to an upstream and opens a Stream for
// each request.
//
// # Translation (RFC 9113, 8)
//
//   - A request's pseudo-fields become the request line and Host, with which a Host must agree; cookie crumbs are joined. What RFC 9113, 8.2 and 8.3 forbid makes a message malformed: its stream is reset, and no byte
//     of it is passed on. What is well-formed but refused by http1 is passed on to the core, which answers it as it does with HTTP/1.1.
//   - A message with Content-Length keeps it, and is held to it; one without has its body chunked, with its trailers behind; one that ends with its head has none. A message is whole only when its stream has ended: until
//     then its last byte is held back.
//   - The other way round, an answer ends its stream where HTTP/1.1 says, or when the core closes where that is what ends it. An answer that ends before it is whole is reset, so that it does not look whole.
//     When the whole answer came before the whole request, the rest is refused with NO_ERROR.
//   - A trailer that http1 refuses behind a chunked body is left out (RFC 9110, 6.5.1 allows that). So are trailers behind a body with Content-Length, unless the head announced them: HTTP/1.1 has no place for them.
//   - Fields of the connection (RFC 9110, 7.6.1) end here. te: trailers is sent with every request of gRPC.
//   - 101 does not exist in HTTP/2. CONNECT is a tunnel; a WebSocket's extended CONNECT (RFC 8441) is a GET with Upgrade, and the other way round if the upstream takes it.
//   - Server push is not asked for and not offered; priorities are ignored.
//
// # Goroutines and memory
//
// A connection has a goroutine that reads, one that writes while there is something to write, and one for each request that is served. It holds buffers only for what has arrived and was not read (at most what the windows
// allow) and for what is to be written (64 KiB, and frames that do not wait); an idle one holds none.
//
// # Limits
//
// A stream counts until the core has let go of it, whoever reset it. What a peer could do for nothing is counted by kind, and ends the connection with ENHANCE_YOUR_CALM: see flood.go. A frame that has
// begun, but for DATA, and a header block have to be whole in time; so has a caller to take something of what waits for him. Frames that RFC 9113
// does not allow end the connection too, also where it speaks of an error of the stream, so that nobody can make us reset our own streams at will; what may be the fault of somebody behind the peer, a malformed
// message, ends its stream only. Each end that is the peer's fault has a name: see [ReasonMalformed] and those beside it.
package http2
