// Package http2 lets the proxy's core carry HTTP/2 without knowing it: a connection of HTTP/2 is seen as many connections that each carry one exchange of HTTP/1.1.
//
// The core reads and writes HTTP/1.1 through [http1]; a [Stream] turns its bytes into frames and frames into its bytes, strictly and in both directions, with x/net's Framer and HPACK and nothing else of
// that package. So there is one routing and filter core, HTTP/1.1 and HTTP/2 meet in one place, and what passes from one to the other has been judged by both codecs.
//
// A [Server] is the near side: it takes a caller's connection, and hands each request to a function as a Stream. A [Client] is the far side: it keeps one connection to an upstream and opens a Stream for each request.
//
// # Translation (RFC 9113, 8)
//
//   - A request's pseudo-fields become the request line and Host; cookie crumbs are joined. What RFC 9113, 8.2 and 8.3 forbid makes the request malformed: it is reset, and no byte of it is passed on.
//   - A message with Content-Length keeps it, and is held to it; one without has its body chunked, with its trailers behind; one that ends with its head has none. The answer to a request with a body of unknown length
//     ends where HTTP/1.1 says, or with the stream when HTTP/1.1 would have closed the connection.
//   - A trailer that http1 refuses behind a chunked body is left out. Trailers behind a body with Content-Length are left out too: HTTP/1.1 has no place for them.
//   - Fields of the connection (RFC 9110, 7.6.1) end here. Te: trailers is sent with every request to an upstream that speaks gRPC.
//   - An answer that ends before it is whole is reset, so that it does not look whole. When the whole answer came before the whole request, the rest is refused with NO_ERROR.
//   - 101 does not exist in HTTP/2. CONNECT is a tunnel; extended CONNECT is not offered.
//
// # Limits
//
// Memory is bounded by the windows, the limits of heads and the number of streams, which counts a stream until the core has let go of it, whoever reset it. What an attacker could send for nothing is
// counted, and ends the connection with ENHANCE_YOUR_CALM and one of the [Reasons]: see flood.go.
package http2
