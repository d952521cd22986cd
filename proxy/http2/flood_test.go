package http2

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/proxy/socket"
)

// mostHeld is what a server may hold because of one peer who attacks: a header block as it is decoded, several times over as slices grow, what waits to be written, and one buffer for input; a stream's
// window where he fills one.
const mostHeld = 512 << 10

// asleep takes nothing for a minute of synctest's.
func asleep(*Stream) { time.Sleep(time.Minute) }

// Each attack ends in a GOAWAY that says why, and in a closed connection; its reason is told once; until then little is held, and nothing is left.
func TestFloods(t *testing.T) {
	t.Parallel()
	for _, x := range attacks {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				a := newAttacked(t, false, ServerOptions{Serve: x.serve})
				a.greet()
				n := 0
				for ; n < x.steps && !a.gone; n++ {
					x.step(a.peer, n)
					if n%16 == 0 || x.steps < 16 {
						a.weigh()
					}
					if _, told := a.goneAway(); told {
						break
					}
				}
				require.Less(t, n, x.steps, "the attack goes on")
				code, told := a.awaitEnd()
				<-a.ended
				require.True(t, told)
				require.Equal(t, x.code, code)
				require.Equal(t, 1, a.ears.heard()[x.reason], "%v", a.ears.heard())
				require.Less(t, a.peak, mostHeld)
				require.LessOrEqual(t, held(&a.server.conn)+heldByReader(&a.server.conn), socket.BufferSize+2*maxIdle)
			})
		})
	}
}
