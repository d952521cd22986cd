package desync

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/mesh"
)

// sent2 is what a caller of HTTP/2 sends on one stream, and what must come of it: it is answered by the origin, which saw it; or by the proxy; or reset.
type sent2 struct {
	name, rule string
	fields     []string // names and values by turns
	data       []string // frames of it; nil: the head ends the stream
	trailers   []string // end the stream; nil: the last data does
	seen       string   // as message.String gives it; it is answered 200
	status     int      // with which the proxy refuses it
	reason     string
	inBody     bool // it is reset because of its body or trailers: a part may have been passed on
}

// sends sends the vector on a new stream.
func (v *sent2) sends(c *caller2) uint32 {
	id := c.open()
	c.head(id, v.fields, v.data == nil && v.trailers == nil)
	for i, s := range v.data {
		c.data(id, s, i == len(v.data)-1 && v.trailers == nil)
	}
	if v.trailers != nil {
		c.head(id, v.trailers, true)
	}
	return id
}

// TestRequestsOverHTTP2 sends every vector through a proxy to every origin, and probes behind it on the same connection of HTTP/2, on another one, and by HTTP/1.1.
func TestRequestsOverHTTP2(t *testing.T) {
	t.Parallel()
	all := origins(t)
	vectors := requests2()
	named(t, vectors, func(v sent2) string { return v.name })
	for _, o := range all {
		for _, protocol := range protocols {
			for _, v := range vectors {
				if v.seen == "" && !v.inBody && o != all[0] {
					continue // no origin hears of it
				}
				t.Run(o.name+"/"+string(protocol)+"/"+v.name, func(t *testing.T) {
					t.Parallel()
					v.try(t, o, protocol)
				})
			}
		}
	}
}

func (v *sent2) try(t *testing.T, o *origin, protocol mesh.Protocol) {
	p := newTap(t, o.dial[protocol])
	s := newSidecar(t, p.at, protocol)
	sent := &probes{}
	c := call2(t, s.at)
	r := c.result(v.sends(c))
	require.False(t, c.dead, "the connection has ended")
	var want []string
	switch {
	case v.seen != "":
		want = append(want, v.seen)
		require.True(t, r.ended, "reset: %v", r.code)
		if !o.choosy[v.name] {
			require.Equal(t, 200, r.status(), "%s", r.body)
			require.Equal(t, saw(v.seen), r.fields["x-saw"])
			require.True(t, method(v.seen) == "HEAD" || saw(v.seen) == string(r.body), "%s", r.body)
		}
	case v.status != 0:
		require.True(t, r.ended, "reset: %v", r.code)
		require.Equal(t, v.status, r.status())
		require.Equal(t, v.reason, r.fields[mesh.HeaderReason])
	case v.inBody && o.early && r.ended: // it was answered before its body came
	default:
		require.True(t, r.reset, "answered %d", r.status())
		require.Equal(t, http2.ErrCodeProtocol, r.code)
	}
	c.probe(sent)
	c.probe(sent)
	c.Close()
	v.more(t, s, sent)
	s.stop()
	compare(t, p, protocol, want, sent, allowed{part: v.inBody, early: o.early, choosy: o.choosy[v.name]})
}

// more sends probes on new connections of both protocols.
func (v *sent2) more(t *testing.T, s *sidecar, sent *probes) {
	again := call2(t, s.at)
	again.probe(sent)
	again.Close()
	other := call(t, s.at)
	other.probe(sent)
	other.probe(sent)
	other.Close()
}

// frames are frames that RFC 9113 does not allow, behind a request that is answered: the connection ends, with a code that says why, and no request comes of them.
type frames struct {
	name, rule string
	code       http2.ErrCode
	send       func(c *caller2)
}

// TestFramesThatEndTheConnection sends them.
func TestFramesThatEndTheConnection(t *testing.T) {
	t.Parallel()
	o := netHTTP(t, shortDir(t))
	vectors := badFrames()
	named(t, vectors, func(v frames) string { return v.name })
	for _, protocol := range protocols {
		for _, v := range vectors {
			t.Run(string(protocol)+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				v.try(t, o, protocol)
			})
		}
	}
}

func (v *frames) try(t *testing.T, o *origin, protocol mesh.Protocol) {
	p := newTap(t, o.dial[protocol])
	s := newSidecar(t, p.at, protocol)
	sent := &probes{}
	c := call2(t, s.at)
	c.probe(sent)
	v.send(c)
	for !c.dead && c.code == 0 {
		c.read()
	}
	require.Equal(t, v.code, c.code)
	c.Close() // the proxy waits for that, so that nothing overtakes its GOAWAY
	(&sent2{}).more(t, s, sent)
	s.stop()
	compare(t, p, protocol, nil, sent, allowed{part: true})
}
