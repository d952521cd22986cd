// Package desync shows that no byte of one message becomes part of another: request smuggling, response splitting and answers out of step, tried on a running proxy. There is nothing in it but tests.
//
// A vector is what a caller sends, or an origin answers, and what must come of it: refused, and nothing of it was seen behind the proxy; or carried exactly once, in the one form that has one meaning. The vectors are
// written from RFC 9110, 9112 and 9113 (the files of tables; each row names its section), and from the classes of attacks that are known in public. The codec's own vectors (proxy/http1/vectors) are sent too.
//
// # How crossing would show
//
//   - Between proxy and origin all bytes are recorded, and read afterwards by a reader that knows canonical messages only. What it reads must be what the vector says, no more and no less.
//   - Origins say in their answer what they have read. That is compared with the record: net/http, nginx and HAProxy (those that are installed), by HTTP/1.1 and HTTP/2.
//   - Behind each vector come probes, requests with a token each that the origin repeats: on the same connection where that stays open, and on a new one, both through the same pool of connections to the origin. A byte
//     that is left over anywhere displaces a token.
package desync
