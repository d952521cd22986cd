package desync

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// sent is what a caller of HTTP/1.1 sends, and what must come of it.
type sent struct {
	name, rule string
	send       string
	seen       []string // the requests that the origin sees, in order, as message.String gives them; each is answered 200
	status     int      // behind them the proxy refuses what follows, and closes; 0: it does not
	reason     string   // as the proxy gives it
	inBody     bool     // the refusal is because of a body, the beginning of which may have been passed on
	end        bool     // the caller says that no more comes
	closes     bool     // the connection ends behind the last answer, without a refusal
}

// methods are those of the requests that are answered.
func (v *sent) methods() []string {
	var list []string
	for _, s := range v.seen {
		list = append(list, method(s))
	}
	return list
}

// TestRequestsOverHTTP1 sends every vector through a proxy to every origin.
func TestRequestsOverHTTP1(t *testing.T) {
	t.Parallel()
	all := origins(t)
	vectors := slices.Concat(smuggled(), bodies(), codec())
	named(t, vectors, func(v sent) string { return v.name })
	for _, o := range all {
		for _, protocol := range protocols {
			for _, v := range vectors {
				if v.status != 0 && len(v.seen) == 0 && !v.inBody && o != all[0] {
					continue // no origin hears of it
				}
				t.Run(o.name+"/"+string(protocol)+"/"+v.name, func(t *testing.T) {
					t.Parallel()
					v.try(t, o, protocol, (*caller).say)
				})
			}
		}
	}
}

// TestRequestsByTheByte sends them in as many pieces as possible.
func TestRequestsByTheByte(t *testing.T) {
	t.Parallel()
	o := netHTTP(t, shortDir(t))
	for _, v := range slices.Concat(smuggled(), bodies()) {
		if len(v.send) > 4<<10 {
			continue // the long ones come in pieces anyway
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			v.try(t, o, mesh.HTTP, (*caller).spell)
		})
	}
}

// try sends the vector and probes behind it, and compares what everybody saw.
func (v *sent) try(t *testing.T, o *origin, protocol mesh.Protocol, say func(*caller, string)) {
	p := newTap(t, o.dial[protocol])
	s := newSidecar(t, p.at, protocol)
	sent := &probes{}
	c := call(t, s.at)
	say(c, v.send)
	if v.end {
		require.NoError(t, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
	}
	closed, seen := false, v.seen
	for i, method := range v.methods() {
		resp, body := c.whole(method)
		if closed = resp.Close; closed && o.early {
			seen = seen[:i+1] // there is no telling when the rest of the body comes
		}
		if !o.choosy[v.name] {
			require.Equal(t, 200, resp.StatusCode, "%s", body)
			require.Equal(t, saw(v.seen[i]), resp.Header.Get("X-Saw"))
			require.True(t, method == "HEAD" || body == saw(v.seen[i]), "%s", body)
		}
		if closed {
			break
		}
	}
	switch {
	case closed && !v.closes:
		require.True(t, o.early || o.choosy[v.name], "the connection was not kept")
		c.ends()
	case v.status != 0:
		resp, _ := c.whole("")
		require.Equal(t, v.status, resp.StatusCode)
		require.Equal(t, v.reason, resp.Header.Get(mesh.HeaderReason))
		require.True(t, resp.Close)
		c.ends()
	case v.closes || v.end:
		c.ends()
	default:
		c.probe(sent)
		c.probe(sent)
	}
	c.Close()
	again := call(t, s.at)
	again.probe(sent)
	again.probe(sent)
	again.Close()
	s.stop()
	compare(t, p, protocol, seen, sent, allowed{part: v.inBody, early: o.early, choosy: o.choosy[v.name]})
}

// allowed is what may be otherwise than expected.
type allowed struct {
	part   bool // a part of a request was passed on, which the origin cannot take for a whole one
	early  bool // the origin answered before it had the whole body, which was given up then
	choosy bool // the origin makes something else of what the vector says, or refuses it
}

// compare requires that the origin saw what the vector says, and the probes, and that it understood what the record says.
func compare(t *testing.T, p *tap, protocol mesh.Protocol, want []string, sent *probes, may allowed) {
	t.Helper()
	requests, answers := readRequests, readAnswers
	if protocol == mesh.HTTP2 {
		requests, answers = readRequests2, readAnswers2
	}
	var got []string
	want = slices.Clone(want)
	for _, record := range p.records(t) {
		list, err := requests(record.up.Bytes())
		require.NoError(t, err, "%.2000q", record.up.Bytes())
		said, err := answers(record.down.Bytes(), list)
		if err != nil {
			require.True(t, may.part, "%v: %.2000q", err, record.down.Bytes())
		}
		for i, m := range list {
			if m.part {
				require.True(t, may.part || may.early, "a part of a request was passed on: %.200s", m)
				want = slices.DeleteFunc(want, func(s string) bool { return may.early && saw(s) == m.saw() })
				continue
			}
			if i >= len(said) || said[i] == "" { // nginx ends a connection of HTTP/2 because of trailers behind its answer: what is on its way then is refused, and sent again
				require.True(t, may.early && protocol == mesh.HTTP2, "no answer to %.200s", m)
				continue
			}
			got = append(got, m.String())
			if m.token != "" || !may.choosy {
				require.Equal(t, m.saw(), said[i])
			}
		}
		require.LessOrEqual(t, len(said), len(list), "the origin answered what was not asked: %.2000q", record.down.Bytes())
	}
	for _, m := range sent.sent {
		want = append(want, m.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	require.True(t, slices.Equal(want, got), "the origin saw %.2000q and not %.2000q", got, want)
}
