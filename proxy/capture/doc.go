// Package capture brings an application's traffic to the sidecar without asking the application: [Install] lets the kernel redirect the TCP connections of a network namespace to the
// sidecar's two listeners, and [OriginalDst] tells where a redirected connection was going.
//
// The rules are one nftables table, [Table], for IPv4 and IPv6, set over netlink in one transaction. They do what Istio's do:
//
//   - What comes from outside goes to the inbound listener, but for the sidecar's own ports and those that are excluded.
//   - What the application sends out goes to the outbound listener, but for what stays on the loopback interface, and excluded ports, destinations and users.
//   - What the sidecar sends out is left alone. What it sends to the namespace itself has come from the application, by way of a service that the application belongs to, and so it goes to the inbound
//     listener. The sidecar's connections to the application must not: they are told apart by a mark in the IP header, which [Dial] sets. (Istio tells them apart by the source address
//     127.0.0.6. The application then sees strangers as loopback callers, and IPv6 needs an address to be added.)
//
// Packets carry the mark as differentiated services code point 43, one of the sixteen that are for local use (RFC 2474, 6; pool 2). It needs no privilege, and never leaves the loopback interface.
package capture
