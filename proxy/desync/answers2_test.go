package desync

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/mesh"
)

// said2 is what an origin of HTTP/2 says on one stream, and what must come of it.
type said2 struct {
	name, rule string
	method     string // of the request; "" is GET
	say        func(o *speaker, id uint32)
	status     int // that the caller gets; 0: no whole answer, or the proxy's
	body       string
	dies       bool // the connection to the origin cannot be used any more
}

// speaker is an origin's end of a connection of HTTP/2.
type speaker struct {
	framer *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
}

// head sends HEADERS: names and values by turns.
func (o *speaker) head(id uint32, end bool, fields ...string) {
	_ = o.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: o.encode(fields), EndHeaders: true, EndStream: end})
}

func (o *speaker) encode(fields []string) []byte {
	o.block.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		_ = o.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // a buffer takes everything
	}
	return bytes.Clone(o.block.Bytes())
}

func (o *speaker) data(id uint32, s string, end bool) { _ = o.framer.WriteData(id, end, []byte(s)) }

// serve carries a connection: it says what the vector says to /vector, and answers probes.
func (v *said2) serve(s *scripted, n int, c net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil {
		return
	}
	o := &speaker{framer: http2.NewFramer(c, c)}
	o.framer.AllowIllegalWrites = true
	o.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	o.enc = hpack.NewEncoder(&o.block)
	_ = o.framer.WriteSettings()
	open := map[uint32]*message{}
	for {
		f, err := o.framer.ReadFrame()
		if err != nil {
			return
		}
		id, ended := f.Header().StreamID, false
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = o.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = o.framer.WritePing(true, f.Data)
			}
		case *http2.MetaHeadersFrame:
			m := &message{method: f.PseudoValue("method"), target: f.PseudoValue("path")}
			for _, field := range f.RegularFields() {
				if field.Name == "x-token" {
					m.token = field.Value
				}
			}
			open[id], ended = m, f.StreamEnded()
		case *http2.DataFrame:
			open[id].body += string(f.Data())
			ended = f.StreamEnded()
		}
		if !ended {
			continue
		}
		m := *open[id]
		s.saw(n, m)
		if m.target == "/vector" {
			v.say(o, id)
			continue
		}
		o.head(id, false, ":status", "200", "x-saw", m.saw())
		o.data(id, m.saw(), true)
	}
}

// TestAnswersOverHTTP2 lets an origin say every vector, to callers of both protocols.
func TestAnswersOverHTTP2(t *testing.T) {
	t.Parallel()
	vectors := answers2()
	named(t, vectors, func(v said2) string { return v.name })
	for _, v := range vectors {
		for name, try := range map[string]func(*said2, *testing.T){"1": (*said2).try, "2": (*said2).try2} {
			t.Run(name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				try(&v, t)
			})
		}
	}
}

func (v *said2) asks() string {
	if v.method == "" {
		return "GET"
	}
	return v.method
}

func (v *said2) begin(t *testing.T) (*scripted, *sidecar) {
	o := &scripted{}
	o.listen(t, func(n int, c net.Conn) { v.serve(o, n, c) })
	return o, newSidecar(t, o.at, mesh.HTTP2)
}

// primed is how many probes come before the vector: so the connection to the origin is there, and a failure could be taken for that of an old one; and the first probe behind is a GET, which may be
// sent again when it was on its way while the connection ended.
const primed = 2

func (v *said2) prime(c interface{ probe(*probes) }, sent *probes) {
	for range primed {
		c.probe(sent)
	}
}

// try asks by HTTP/1.1.
func (v *said2) try(t *testing.T) {
	o, s := v.begin(t)
	sent := &probes{}
	c := call(t, s.at)
	v.prime(c, sent)
	c.say(lines(v.asks()+" /vector HTTP/1.1", "Host: a"))
	if c.answer(v.asks(), v.status, v.body) {
		c.probe(sent)
	} else {
		c.ends()
	}
	c.Close()
	v.end(t, o, s, sent)
}

// try2 asks by HTTP/2.
func (v *said2) try2(t *testing.T) {
	o, s := v.begin(t)
	sent := &probes{}
	c := call2(t, s.at)
	v.prime(c, sent)
	id := c.open()
	c.head(id, request2(v.asks(), "/vector"), true)
	c.answer(id, v.status, v.body)
	c.probe(sent)
	c.Close()
	v.end(t, o, s, sent)
}

func (v *said2) end(t *testing.T, o *scripted, s *sidecar, sent *probes) {
	t.Helper()
	(&sent2{}).more(t, s, sent)
	s.stop()
	o.stop()
	var want []string
	vector := message{method: v.asks(), target: "/vector"}.String()
	for i, m := range sent.sent {
		if i == primed {
			want = append(want, vector)
		}
		want = append(want, m.String())
	}
	got := o.requests()
	if !v.dies {
		require.Equal(t, want, got)
		require.Len(t, o.conns, 1, "the connection was not kept")
		return
	}
	// A probe that was on its way when the connection ended is sent again, on another one. The vector's request was answered.
	require.Subset(t, want, got)
	require.Subset(t, got, want)
	vectors := 0
	for _, s := range got {
		if s == vector {
			vectors++
		}
	}
	require.Equal(t, 1, vectors, "it was sent again: %q", got)
}
