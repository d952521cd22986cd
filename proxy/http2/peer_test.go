package http2

import (
	"bytes"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/socket"
)

// peer is the other end of a connection, which may send whatever it likes. A goroutine notes what arrives.
type peer struct {
	t    testing.TB
	conn net.Conn
	to   *http2.Framer // what it writes is sent at once
	enc  *hpack.Encoder
	buf  bytes.Buffer
	gone bool // nothing can be sent any more

	mu     sync.Mutex
	more   sync.Cond // something was noted
	all    []frame
	closed bool // the other end has closed
	deaf   bool // it reads nothing more
}

// frame is one that arrived.
type frame struct {
	http2.FrameHeader
	payload []byte
}

// code is that of a RST_STREAM or GOAWAY.
func (f frame) code() http2.ErrCode {
	if f.Type == http2.FrameGoAway {
		return http2.ErrCode(binary.BigEndian.Uint32(f.payload[4:]))
	}
	return http2.ErrCode(binary.BigEndian.Uint32(f.payload))
}

// newPeer takes over an end of a connection; deaf, it reads nothing.
func newPeer(t testing.TB, conn net.Conn, deaf bool) *peer {
	p := &peer{t: t, conn: conn, deaf: deaf}
	p.more.L = &p.mu
	p.to = http2.NewFramer(sender{p}, nil)
	p.to.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.buf)
	if !deaf {
		done := make(chan struct{})
		go func() { defer close(done); p.listen() }()
		t.Cleanup(func() { conn.Close(); <-done })
	}
	return p
}

// sender sends, and notes when that is not possible any more.
type sender struct{ p *peer }

func (s sender) Write(b []byte) (int, error) {
	_, err := s.p.conn.Write(b)
	if err != nil {
		s.p.gone = true
	}
	return len(b), nil
}

func (p *peer) raw(b ...byte) { _, _ = sender{p}.Write(b) }

// listen notes frames until the connection ends.
func (p *peer) listen() {
	from := http2.NewFramer(nil, p.conn)
	from.AllowIllegalReads = true
	for {
		f, err := from.ReadFrameHeader()
		if err == nil {
			b := make([]byte, f.Length)
			if _, err = readFull(p.conn, b); err == nil {
				p.note(frame{f, b}, false)
				continue
			}
		}
		p.note(frame{}, true)
		return
	}
}

func readFull(c net.Conn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = c.Read(b[n:])
		n += k
	}
	if n == len(b) {
		return n, nil
	}
	return n, err
}

func (p *peer) note(f frame, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if end {
		p.closed = true
	} else {
		p.all = append(p.all, f)
	}
	p.more.Broadcast()
}

// await waits for a frame that is wanted, and returns it; none when the connection has ended without.
func (p *peer) await(wanted func(frame) bool) (f frame, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for seen := 0; ; p.more.Wait() {
		for ; seen < len(p.all); seen++ {
			if wanted(p.all[seen]) {
				return p.all[seen], true
			}
		}
		if p.closed {
			return frame{}, false
		}
	}
}

func kindOf(t http2.FrameType) func(frame) bool { return func(f frame) bool { return f.Type == t } }

// awaitEnd waits until the connection has ended, and returns the code of the last GOAWAY; NO_ERROR and false if there was none.
func (p *peer) awaitEnd() (code http2.ErrCode, told bool) {
	p.await(func(frame) bool { return false })
	return p.goneAway()
}

// goneAway is the code of the last GOAWAY so far.
func (p *peer) goneAway() (code http2.ErrCode, told bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.all {
		if f.Type == http2.FrameGoAway {
			code, told = f.code(), true
		}
	}
	return code, told
}

// greet sends the preface of a client with settings.
func (p *peer) greet(all ...http2.Setting) {
	p.raw([]byte(http2.ClientPreface)...)
	_ = p.to.WriteSettings(all...)
	_ = p.to.WriteSettingsAck()
}

// block encodes fields: names and values in turn.
func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		require.NoError(p.t, p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(p.buf.Bytes())
}

// headers sends a header block.
func (p *peer) headers(id uint32, end bool, fields ...string) {
	_ = p.to.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndHeaders: true, EndStream: end})
}

// ask sends the head of a request, and more fields.
func (p *peer) ask(id uint32, method string, end bool, fields ...string) {
	p.headers(id, end, append([]string{":method", method, ":scheme", "http", ":path", "/", ":authority", "x"}, fields...)...)
}

// ears is who may be told of reasons.
type ears struct {
	mu  sync.Mutex
	all map[string]int
}

func (e *ears) tell(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = map[string]int{}
	}
	e.all[reason]++
}

func (e *ears) heard() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[string]int{}
	for k, n := range e.all {
		out[k] = n
	}
	return out
}

// attacked is a server in a bubble of synctest, at the other end of a peer.
type attacked struct {
	*peer
	server *Server
	ears   ears
	ended  chan struct{}
	peak   int // bytes that the server has held
}

// newAttacked runs a server on a pipe, which holds nothing by itself.
func newAttacked(t *testing.T, deaf bool, o ServerOptions) *attacked {
	near, far := net.Pipe()
	a := &attacked{ended: make(chan struct{})}
	o.Count = a.ears.tell
	if o.Serve == nil {
		o.Serve = swallow
	}
	a.server = NewServer(socket.New(near), o)
	go func() { defer close(a.ended); a.server.Run(nil) }()
	a.peer = newPeer(t, far, deaf)
	t.Cleanup(func() { a.server.Abort(); <-a.ended })
	return a
}

// swallow reads a request to its end, and answers nothing.
func swallow(st *Stream) {
	var b [1024]byte
	for {
		if _, err := st.Read(b[:]); err != nil {
			return
		}
	}
}

// weigh notes how much the server holds at the moment, once all that could be done was.
func (a *attacked) weigh() {
	synctest.Wait()
	a.peak = max(a.peak, held(&a.server.conn)+heldByReader(&a.server.conn))
}

// held is how many bytes a connection holds because of its peer beside what its reader does: streams, and what waits to be written.
func held(c *conn) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.queue != nil {
		n += cap(c.out.queue.b)
	}
	n += c.enc.buf.Cap() + cap(c.enc.name) + cap(c.enc.path)
	for _, st := range c.streams {
		n += len(st.recv.payload.bufs)*socket.BufferSize + cap(st.recv.tail)
		if st.scratch != nil {
			n += cap(st.scratch.text) + cap(st.scratch.partial)
		}
	}
	return n
}

// heldByReader is what the reader holds: a buffer that it works on, and the header block that it decodes. It may be asked by whoever makes the reader read, while that waits.
func heldByReader(c *conn) int {
	return socket.BufferSize + cap(c.block.lines) + cap(c.block.cookie)
}
