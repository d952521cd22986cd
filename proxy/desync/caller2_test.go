package desync

import (
	"bytes"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// caller2 is a raw client of HTTP/2, which sends whatever it is told to.
type caller2 struct {
	net.Conn
	t      *testing.T
	framer *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
	next   uint32 // stream
	came   map[uint32]*result2
	dead   bool // the connection has ended
	code   http2.ErrCode
}

// result2 is what came on a stream.
type result2 struct {
	message2
	reset bool
	code  http2.ErrCode
}

func call2(t *testing.T, address string) *caller2 {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { conn.Close() })
	c := &caller2{Conn: conn, t: t, framer: http2.NewFramer(conn, conn), next: 1, came: map[uint32]*result2{}}
	c.framer.AllowIllegalWrites = true
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.block)
	_, err = conn.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	require.NoError(t, c.framer.WriteSettings())
	return c
}

// encode encodes fields: names and values by turns.
func (c *caller2) encode(fields []string) []byte {
	c.block.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		require.NoError(c.t, c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(c.block.Bytes())
}

// open gives the number of a new stream.
func (c *caller2) open() uint32 {
	id := c.next
	c.next += 2
	return id
}

// head sends HEADERS. What cannot be sent any more is found out when the answer is read.
func (c *caller2) head(id uint32, fields []string, end bool) {
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(fields), EndHeaders: true, EndStream: end})
}

func (c *caller2) data(id uint32, s string, end bool) { _ = c.framer.WriteData(id, end, []byte(s)) }

// result waits until a stream or the connection is over.
func (c *caller2) result(id uint32) *result2 {
	c.t.Helper()
	for {
		r := c.came[id]
		if c.dead || r != nil && (r.ended || r.reset) {
			if r == nil {
				r = &result2{}
			}
			return r
		}
		c.read()
	}
}

// read reads one frame.
func (c *caller2) read() {
	c.t.Helper()
	f, err := c.framer.ReadFrame()
	if err != nil {
		if failed, is := err.(net.Error); is {
			require.False(c.t, failed.Timeout(), "the stream stays open")
		}
		c.dead = true
		return
	}
	id := f.Header().StreamID
	r := c.came[id]
	if r == nil && id != 0 {
		r = &result2{}
		c.came[id] = r
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.framer.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo {
			c.code = f.ErrCode
		}
	case *http2.MetaHeadersFrame:
		require.NoError(c.t, r.take(f.Fields))
		r.ended = f.StreamEnded()
	case *http2.DataFrame:
		require.False(c.t, r.ended, "DATA behind the end")
		r.body = append(r.body, f.Data()...)
		r.ended = f.StreamEnded()
	case *http2.RSTStreamFrame:
		if r.reset = !r.ended || f.ErrCode != http2.ErrCodeNo; r.reset {
			r.code = f.ErrCode
		}
	}
}

// status is that of the answer; 0: none.
func (r *result2) status() int {
	n, _ := strconv.Atoi(r.fields[":status"])
	return n
}

// probe sends a request with a token, which must come back.
func (c *caller2) probe(p *probes) {
	c.t.Helper()
	m := p.next()
	id := c.open()
	fields := append(request2(m.method, m.target), "x-token", m.token)
	c.head(id, fields, m.body == "")
	if m.body != "" {
		c.data(id, m.body, true)
	}
	r := c.result(id)
	require.True(c.t, r.ended)
	require.Equal(c.t, 200, r.status())
	require.Equal(c.t, m.saw(), r.fields["x-saw"])
	require.Equal(c.t, m.saw(), string(r.body))
}

// request2 is the head of a request, with more fields: names and values by turns.
func request2(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "http", ":authority", "a", ":path", path}, more...)
}
