package http2

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/proxy/http1"
)

// Transport is the connection itself. *socket.Conn is one.
type Transport interface {
	io.ReadWriteCloser
	// Abort closes so that the other side sees a broken connection, and ends reads and writes in progress.
	Abort()
}

// Windows and sizes.
const (
	DefaultMaxStreams = 100       // Envoy's edge limit; also HAProxy's and nginx's order
	streamWindow      = 64 << 10  // what a peer may send on a stream before it is read (Envoy's edge limit)
	connWindow        = 1 << 20   // and on all streams together
	initialWindow     = 65_535    // RFC 9113, 6.9.2
	maxFrame          = 16 << 10  // the least that everybody must accept (RFC 9113, 4.2), and all that we do
	maxBacklog        = 128 << 10 // bytes that wait to be written before whoever has more to send waits
	tableSize         = 4 << 10   // HPACK's dynamic tables, both ways
)

// mux is what both sides have in common: frames, windows, and the streams.
type mux struct {
	tr     Transport
	lim    *http1.Limits
	client bool
	owner  *Client // at the client's side
	told   func(reason string)
	clock  func() time.Duration

	reader *bufio.Reader
	framer *http2.Framer
	dec    *hpack.Decoder
	fields fields // of the header block that is being read

	mu      sync.Mutex
	streams map[uint32]*Stream
	window  int64 // that the peer grants for all streams
	owed    int   // bytes taken by readers that the peer was not told of
	peer    peerSettings
	enc     *encoder

	buf, spare []byte
	out        *http2.Framer // appends to buf
	flushing   bool
	flushBegan time.Duration // when the write in progress began
	room       sync.Cond     // the backlog shrank, or the connection died
	control    int           // control frames in buf that answer the peer's

	resets   [64]uint32 // streams that were reset here last
	nthReset int

	dead   error // why nothing goes any more
	refuse bool  // no new streams: GOAWAY came or went
}

// peerSettings are what the peer allows.
type peerSettings struct {
	maxFrame   int
	window     int64 // of a new stream
	maxStreams uint32
}

var (
	errClosed = errors.New("the HTTP/2 connection is closed")
	// ErrRefused says that the peer did not process anything of the request: it can be sent elsewhere.
	ErrRefused = errors.New("the HTTP/2 stream was refused")
	// ErrReset says that the peer reset the stream.
	ErrReset = errors.New("the HTTP/2 stream was reset")
)

func (m *mux) init(tr Transport, lim *http1.Limits, told func(string)) {
	start := time.Now()
	m.tr, m.lim, m.told = tr, lim, told
	m.clock = func() time.Duration { return time.Since(start) }
	if m.told == nil {
		m.told = func(string) {}
	}
	m.out = http2.NewFramer((*appender)(m), nil)
	m.dec = hpack.NewDecoder(tableSize, m.fields.emit)
	m.fields.lim = lim
	m.dec.SetMaxStringLength(lim.HeaderBytes)
	m.streams = map[uint32]*Stream{}
	m.window = initialWindow
	m.peer = peerSettings{maxFrame: maxFrame, window: initialWindow, maxStreams: 100}
	m.enc = newEncoder()
	m.room.L = &m.mu
}

// readFrom begins to read frames, behind the bytes that were read already.
func (m *mux) readFrom(first []byte) {
	var from io.Reader = m.tr
	if len(first) > 0 {
		from = io.MultiReader(bytes.NewReader(first), m.tr)
	}
	m.reader = bufio.NewReaderSize(from, maxFrame)
	m.framer = http2.NewFramer(nil, m.reader)
	m.framer.SetMaxReadFrameSize(maxFrame)
	m.framer.SetReuseFrames()
}

// appender is the mux as the place where its frames are written.
type appender mux

func (a *appender) Write(p []byte) (int, error) {
	a.buf = append(a.buf, p...)
	return len(p), nil
}

// flush writes what waits to be written, unless somebody does already: then it is written by him, with what else comes meanwhile. The lock is held, and given up while the connection takes it.
func (m *mux) flush() {
	if m.flushing {
		return
	}
	m.flushing = true
	for len(m.buf) > 0 && m.dead == nil {
		b := m.buf
		m.buf, m.control = m.spare[:0], 0
		m.flushBegan = m.clock()
		m.mu.Unlock()
		_, err := m.tr.Write(b)
		m.mu.Lock()
		m.spare = b[:0]
		if cap(b) > 4*maxBacklog {
			m.spare = nil
		}
		if err != nil {
			m.die(err)
		}
		m.room.Broadcast()
	}
	m.flushing = false
}

// die ends the connection for everybody. The lock is held.
func (m *mux) die(why error) {
	if m.dead != nil {
		return
	}
	m.dead, m.refuse = why, true
	for _, st := range m.streams {
		st.fail(why)
	}
	m.room.Broadcast()
}

// grant tells the peer that n more bytes of a stream were taken. The lock is held.
func (m *mux) grant(st *Stream, n int) {
	if n == 0 || m.dead != nil {
		return
	}
	m.owed += n
	if m.owed >= connWindow/4 {
		_ = m.out.WriteWindowUpdate(0, uint32(m.owed))
		m.owed = 0
	}
	st.taken += n
	if st.taken >= streamWindow/4 && !st.recvEnd && st.recvErr == nil {
		_ = m.out.WriteWindowUpdate(st.id, uint32(st.taken))
		st.granted += int64(st.taken)
		st.taken = 0
	}
	m.flush()
}

// settings takes the peer's settings. The lock is held.
func (m *mux) settings(f *http2.SettingsFrame) error {
	return f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			grown := int64(s.Val) - m.peer.window
			m.peer.window = int64(s.Val)
			for _, st := range m.streams {
				if st.window += grown; st.window > 1<<31-1 {
					return http2.ConnectionError(http2.ErrCodeFlowControl)
				}
				st.wr.Signal()
			}
		case http2.SettingMaxFrameSize:
			m.peer.maxFrame = int(min(s.Val, maxFrame))
		case http2.SettingMaxConcurrentStreams:
			m.peer.maxStreams = s.Val
		case http2.SettingHeaderTableSize:
			m.enc.resize(s.Val)
		case http2.SettingEnablePush:
			if m.client { // a server has nothing to say about it (RFC 9113, 6.5.2)
				if s.Val != 0 {
					return http2.ConnectionError(http2.ErrCodeProtocol)
				}
			}
		}
		return nil
	})
}

// widen takes a WINDOW_UPDATE. The lock is held.
func (m *mux) widen(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if m.window += int64(f.Increment); m.window > 1<<31-1 {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		for _, st := range m.streams {
			st.wr.Signal()
		}
		return nil
	}
	st := m.streams[f.StreamID]
	if st == nil {
		return nil
	}
	if st.window += int64(f.Increment); st.window > 1<<31-1 {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	st.wr.Signal()
	return nil
}

// take passes DATA to its stream, and checks that it was within the windows.
func (m *mux) take(f *http2.DataFrame) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	size := int(f.Length)
	st := m.streams[f.StreamID]
	if st == nil || st.recvErr != nil {
		m.credit(size)
		return nil // it was reset, and this was on its way
	}
	if st.recvEnd {
		m.credit(size)
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeStreamClosed}
	}
	if st.granted -= int64(size); st.granted < 0 {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeFlowControl}
	}
	data := f.Data()
	if padding := size - len(data); padding > 0 {
		st.granted += int64(padding) // nobody has to read it
		m.credit(padding)
		_ = m.out.WriteWindowUpdate(st.id, uint32(padding))
		m.flush()
	}
	return st.receive(data, f.StreamEnded())
}

// credit gives back what nobody reads. The lock is held.
func (m *mux) credit(n int) {
	if m.owed += n; m.owed >= connWindow/4 {
		_ = m.out.WriteWindowUpdate(0, uint32(m.owed))
		m.owed = 0
		m.flush()
	}
}

// reset ends a stream with an error. The lock is held.
func (m *mux) reset(id uint32, code http2.ErrCode) {
	m.resets[m.nthReset%len(m.resets)] = id
	m.nthReset++
	if m.dead == nil {
		_ = m.out.WriteRSTStream(id, code)
		m.flush()
	}
}

// wasReset reports whether a stream was reset here lately, so that frames of it may still be on their way. The lock is held.
func (m *mux) wasReset(id uint32) bool { return slices.Contains(m.resets[:], id) }

// goAway says that no more streams are taken behind the last one. The lock is held.
func (m *mux) goAway(last uint32, code http2.ErrCode, why string) {
	if m.dead == nil {
		_ = m.out.WriteGoAway(last, code, []byte(why))
		m.flush()
	}
}
