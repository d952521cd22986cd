package http2

import (
	"net"
	"testing"

	"golang.org/x/net/http2"
)

// What the tests through a whole sidecar need of those of this package.

// Attack is an attack that needs nothing but a connection.
type Attack struct {
	Name, Reason string
	Code         http2.ErrCode
	of           attack
}

// Attacks are all of them.
func Attacks() (all []Attack) {
	for _, x := range attacks {
		if x.serve == nil {
			all = append(all, Attack{x.name, x.reason, x.code, x})
		}
	}
	return all
}

// Run attacks by a connection until that has ended, and returns the code of the GOAWAY that it ended with, if there was one.
func (a Attack) Run(t testing.TB, conn net.Conn) (code http2.ErrCode, told bool) {
	p := newPeer(t, conn, false)
	p.greet()
	for n := 0; n < a.of.steps && !p.gone && !told; n++ {
		a.of.step(p, n)
		_, told = p.goneAway()
	}
	return p.awaitEnd()
}

// Hold asks for n answers of which none gets a window, and returns when their heads are there.
func Hold(t testing.TB, conn net.Conn, n int) {
	p := newPeer(t, conn, false)
	p.greet(window(0))
	for i := range n {
		p.ask(stream(i), "GET", true)
	}
	heads := 0
	p.await(func(f frame) bool {
		if f.Type == http2.FrameHeaders {
			heads++
		}
		return heads == n
	})
}
