// Package socket is the proxy's hold on the operating system: stream sockets as the data path reads and writes them, and the buffers that it lends them.
//
// A [Conn] makes its system calls itself, under the runtime's poller, where the platform allows that; elsewhere it is a plain net.Conn. Nobody else in the proxy knows
// the difference. TLS, made by [Client] and [Server], is one more such difference: crypto/tls does the cryptography, on the same system calls.
package socket
