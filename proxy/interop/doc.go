// Package interop shows that gRPC passes the proxy unharmed: grpc-go's interoperability cases (the project's doc/interop-test-descriptions.md), its client against its server, through a sidecar on either side.
// There is nothing in it but tests.
package interop
