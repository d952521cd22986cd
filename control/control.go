// Package control tells sidecars what to do: it keeps the configuration as it should be, gives each sidecar the part that it can reach, in an order in which nothing is named before it
// is there, and knows who has acknowledged what.
//
// The core (core.go, sidecar.go, store.go) decides purely: messages and the time go in, messages come out. The server is a thin shell of gRPC around it.
package control
