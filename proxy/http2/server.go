package http2

import (
	"cmp"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/proxy/http1"
)

// ServerOptions are what a server is made with. Only Serve is needed; the zero value of another field means its default.
type ServerOptions struct {
	Serve func(*Stream)       // carries one exchange, and returns when it is over; called on a goroutine of its own
	Count func(reason string) // is told of every connection and stream that is ended because of the peer, by one of the Reasons

	Limits      *http1.Limits // of heads; default http1.DefaultLimits
	MaxStreams  uint32        // at once; default DefaultMaxStreams
	MaxRequests uint32        // on one connection, which is then ended in good order; default 10,000
	Header      time.Duration // for a whole header block; default 10 s
	Settings    time.Duration // for the acknowledgement of our settings; default 10 s
	Idle        time.Duration // without a stream; default 60 s
	Stall       time.Duration // for the peer to take anything of what is written; default 30 s
}

func (o ServerOptions) withDefaults() ServerOptions {
	if o.Limits == nil {
		o.Limits = http1.DefaultLimits()
	}
	if o.Count == nil {
		o.Count = func(string) {}
	}
	o.MaxStreams = cmp.Or(o.MaxStreams, DefaultMaxStreams)
	o.MaxRequests = cmp.Or(o.MaxRequests, 10_000)
	o.Header = cmp.Or(o.Header, 10*time.Second)
	o.Settings = cmp.Or(o.Settings, 10*time.Second)
	o.Idle = cmp.Or(o.Idle, time.Minute)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	return o
}

// Server is a caller's connection.
type Server struct {
	mux
	opts  ServerOptions
	meter meter

	serving  sync.WaitGroup
	work     chan *Stream  // to workers that wait for some
	idle     int           // of them
	active   uint32        // streams that Serve has not let go of
	last     uint32        // stream that was opened last
	accepted uint32        // streams
	drained  bool          // GOAWAY was sent
	acked    bool          // our SETTINGS
	block    time.Duration // when the header block that is being read began; 0: none is
	quiet    time.Duration // when the last stream ended
	timer    *time.Timer
}

// NewServer takes over a connection. Run carries it.
func NewServer(tr Transport, o ServerOptions) *Server {
	s := &Server{opts: o.withDefaults(), work: make(chan *Stream)}
	s.init(tr, s.opts.Limits, s.opts.Count)
	return s
}

// errAttack ends a connection; its text is the reason that is told.
type errAttack string

func (e errAttack) Error() string { return string(e) }

// Run carries the connection until it ends, and returns when nothing of it is left. The bytes that were read of it already come first; they are to begin with the client's preface.
func (s *Server) Run(first []byte) {
	s.readFrom(first)
	err := s.start()
	if err == nil {
		err = s.read()
	}
	s.stop(err)
	_ = s.tr.Close() // all has been said
	s.serving.Wait()
}

// start exchanges prefaces.
func (s *Server) start() error {
	s.mu.Lock()
	s.quiet = s.clock()
	_ = s.out.WriteSettings(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: s.opts.MaxStreams},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(s.opts.Limits.HeaderBytes)},
	)
	_ = s.out.WriteWindowUpdate(0, connWindow-initialWindow)
	s.flush()
	s.timer = time.AfterFunc(watchInterval, s.watch)
	s.mu.Unlock()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(s.reader, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return errAttack(ReasonPreface)
	}
	return nil
}

// read takes frames until the connection ends, and says why it does.
func (s *Server) read() error {
	for settled := false; ; {
		f, err := s.framer.ReadFrame()
		if err == nil && !settled {
			if _, settled = f.(*http2.SettingsFrame); !settled {
				return http2.ConnectionError(http2.ErrCodeProtocol)
			}
		}
		if err == nil {
			err = s.handle(f)
		}
		var stream http2.StreamError
		switch {
		case err == nil:
		case errors.As(err, &stream):
			if err := s.refuseStream(stream); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// refuseStream resets a stream because of what the peer sent.
func (s *Server) refuseStream(e http2.StreamError) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told(ReasonStream)
	st := s.streams[e.StreamID]
	if st == nil && e.StreamID > s.last {
		if e.StreamID%2 == 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		s.last = e.StreamID
	}
	if st != nil {
		st.fail(ErrReset)
	}
	s.reset(e.StreamID, e.Code)
	return s.early(st)
}

// early counts a reset. The lock is held.
func (s *Server) early(st *Stream) error {
	age := time.Duration(0)
	if st != nil {
		age = s.clock() - st.opened
	}
	if !s.meter.reset(age) {
		return errAttack(ReasonRapidReset)
	}
	return nil
}

// handle carries out one frame.
func (s *Server) handle(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		if !s.meter.content(len(f.Data())) && !f.StreamEnded() {
			return errAttack(ReasonEmptyFrames)
		}
		if err := s.known(f.StreamID); err != nil {
			return err
		}
		return s.take(f)
	case *http2.HeadersFrame:
		return s.headersCame(f)
	case *http2.RSTStreamFrame:
		return s.resetCame(f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.meter.frame(s.clock()) {
		return errAttack(ReasonControlFlood)
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			s.acked = true
			return nil
		}
		if err := s.settings(f); err != nil {
			return err
		}
		return s.answerControl(func() { _ = s.out.WriteSettingsAck() })
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return s.answerControl(func() { _ = s.out.WritePing(true, f.Data) })
	case *http2.WindowUpdateFrame:
		if f.StreamID > s.last || f.StreamID != 0 && f.StreamID%2 == 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol) // of an idle stream
		}
		return s.widen(f)
	case *http2.PriorityFrame:
		return nil // RFC 9113, 5.3.2: it has no meaning any more
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case *http2.GoAwayFrame:
		s.drained = true
		return nil
	case *http2.ContinuationFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil // RFC 9113, 4.1: unknown frames are ignored
}

// known reports an error when a stream was never opened, or cannot be.
func (s *Server) known(id uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case id > s.last || id%2 == 0:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	case s.streams[id] == nil && !s.wasReset(id):
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	}
	return nil
}

// answerControl answers a control frame, unless the peer does not read the answers. The lock is held.
func (s *Server) answerControl(write func()) error {
	if s.control++; s.control > maxControlBacklog {
		return errAttack(ReasonBacklog)
	}
	write()
	s.flush()
	return nil
}

// resetCame ends a stream that the peer does not want any more. Its place is free when the core has let go of it.
func (s *Server) resetCame(f *http2.RSTStreamFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.StreamID > s.last || f.StreamID%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	st := s.streams[f.StreamID]
	if st == nil {
		if !s.meter.frame(s.clock()) {
			return errAttack(ReasonControlFlood)
		}
		return nil
	}
	if st.recvErr != nil && st.sendErr != nil {
		return nil
	}
	st.recvEnd = false
	st.fail(ErrReset)
	return s.early(st)
}

// headersCame takes a header block: a request, or the trailers of one.
func (s *Server) headersCame(f *http2.HeadersFrame) error {
	if f.StreamID%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	ended := f.StreamEnded()
	dependsOnItself := f.HasPriority() && f.Priority.StreamDep == f.StreamID
	id := f.StreamID
	if err := s.readBlock(f); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id <= s.last {
		return s.trailersCame(id, ended)
	}
	s.last = id
	s.meter.opened++
	if dependsOnItself {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	return s.open(id, ended)
}

// readBlock decodes a header block with all its frames.
func (s *Server) readBlock(f *http2.HeadersFrame) error {
	s.mu.Lock()
	s.block = max(s.clock(), 1)
	s.mu.Unlock()
	err := s.mux.readBlock(f)
	s.mu.Lock()
	s.block = 0
	s.mu.Unlock()
	return err
}

// readBlock decodes a header block with all its frames into fields.
func (m *mux) readBlock(f *http2.HeadersFrame) error {
	m.fields.reset()
	fragment, last := f.HeaderBlockFragment(), f.HeadersEnded()
	for {
		m.fields.encoded += len(fragment)
		m.fields.frames++
		if m.fields.encoded > 2*m.lim.HeaderBytes || m.fields.frames > maxBlockFrames || m.fields.size > 8*m.lim.HeaderBytes {
			return errAttack(ReasonContinuation)
		}
		if _, err := m.dec.Write(fragment); err != nil {
			return http2.ConnectionError(http2.ErrCodeCompression)
		}
		if last {
			break
		}
		next, err := m.framer.ReadFrame()
		if err != nil {
			return err
		}
		c, ok := next.(*http2.ContinuationFrame)
		if !ok {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		fragment, last = c.HeaderBlockFragment(), c.HeadersEnded()
	}
	if m.dec.Close() != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	return nil
}

// trailersCame takes the fields behind a request's body. The lock is held.
func (s *Server) trailersCame(id uint32, ended bool) error {
	st := s.streams[id]
	switch {
	case st == nil && s.wasReset(id):
		return nil
	case st == nil:
		return http2.ConnectionError(http2.ErrCodeStreamClosed)
	case st.recvErr != nil:
		return nil
	case st.recvEnd:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	case !ended:
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	return st.receiveTrailers(&s.fields)
}

// open begins a stream with the request that was decoded. The lock is held.
func (s *Server) open(id uint32, ended bool) error {
	if s.active >= s.opts.MaxStreams {
		s.told(ReasonStreams)
		s.reset(id, http2.ErrCodeRefusedStream)
		return s.early(nil)
	}
	if s.fields.tooLarge {
		s.told(ReasonHeaders)
		return s.answerTooLarge(id, ended)
	}
	st := s.newStream(id)
	var ok bool
	if st.in, st.kind, st.expect, ok = s.fields.appendRequest(st.in, ended); !ok {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	st.began, st.recvEnd = true, ended
	st.method = methodOf(s.fields.method)
	st.exchange = http1.Exchange{Method: st.method}
	st.done = func() { delete(s.streams, id) }
	s.streams[id] = st
	s.accepted++
	s.active++
	if s.accepted == s.opts.MaxRequests {
		s.drain()
	}
	s.hand(st)
	return nil
}

func methodOf(name string) http1.Method {
	switch name {
	case "HEAD":
		return http1.HEAD
	case "CONNECT":
		return http1.CONNECT
	default:
		return http1.MethodOther
	}
}

// answerTooLarge answers a request whose head is beyond the limits. The lock is held.
func (s *Server) answerTooLarge(id uint32, ended bool) error {
	s.enc.begin()
	s.enc.static(":status", "431")
	s.enc.static("content-length", "0")
	_ = s.out.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.enc.buf.Bytes(), EndStream: true, EndHeaders: true})
	if !ended {
		_ = s.out.WriteRSTStream(id, http2.ErrCodeNo)
	}
	s.flush()
	return s.early(nil)
}

// hand gives a stream to a worker. Workers live as long as the connection, since their stacks have grown to what a request needs. The lock is held.
func (s *Server) hand(st *Stream) {
	if s.idle > 0 {
		s.idle--
		s.work <- st // somebody is there, or is about to be
		return
	}
	s.serving.Go(func() {
		for st != nil {
			s.opts.Serve(st)
			_ = st.Close()
			s.mu.Lock()
			s.active--
			s.quiet = s.clock()
			s.idle++
			if s.dead != nil {
				s.mu.Unlock()
				return
			}
			s.mu.Unlock()
			st = <-s.work
		}
	})
}

// stop ends the connection because of an error.
func (s *Server) stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer.Stop()
	var connection http2.ConnectionError
	var attack errAttack
	switch {
	case s.dead != nil:
	case errors.As(err, &attack):
		s.told(string(attack))
		s.goAway(s.last, http2.ErrCodeEnhanceYourCalm, string(attack))
	case errors.As(err, &connection):
		s.told(ReasonProtocol)
		s.goAway(s.last, http2.ErrCode(connection), "")
	case errors.Is(err, http2.ErrFrameTooLarge):
		s.told(ReasonProtocol)
		s.goAway(s.last, http2.ErrCodeFrameSize, "")
	}
	s.die(errClosed)
	close(s.work)
}

// Drain says that no more requests are taken. Those in flight finish; then the connection ends.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
}

// drain sends the first GOAWAY, which refuses nothing: requests may be on their way. The last one follows when the connection is quiet (RFC 9113, 6.8).
func (s *Server) drain() {
	if s.drained || s.dead != nil {
		return
	}
	s.drained = true
	s.goAway(1<<31-1, http2.ErrCodeNo, "")
	s.timer.Reset(drainGrace)
}

// Abort ends the connection and all of its streams.
func (s *Server) Abort() {
	s.mu.Lock()
	s.die(errClosed)
	s.mu.Unlock()
	s.tr.Abort()
}

// drainGrace is how long a connection without streams stays after the first GOAWAY: a request that is on its way arrives within.
const drainGrace = 250 * time.Millisecond

// watchInterval is how often a connection is looked at for what takes too long.
const watchInterval = time.Second

// watch ends the connection when something takes too long.
func (s *Server) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return
	}
	now := s.clock()
	why := ""
	switch {
	case s.flushing && now-s.flushBegan > s.opts.Stall:
		why = ReasonSlowRead
	case !s.acked && now > s.opts.Settings:
		why = ReasonSettingsTimeout
	case s.block > 0 && now-s.block > s.opts.Header:
		why = ReasonHeaderTimeout
	case s.active == 0 && s.drained && now-s.quiet >= drainGrace:
		s.depart()
		return
	case s.active == 0 && now-s.quiet > s.opts.Idle:
		s.told(ReasonIdle)
		s.depart()
		return
	}
	if why != "" {
		s.told(why)
		if !s.flushing {
			s.goAway(s.last, http2.ErrCodeEnhanceYourCalm, why)
		}
		s.die(errClosed)
		s.tr.Abort()
		return
	}
	next := watchInterval
	if s.drained {
		next = drainGrace
	}
	s.timer.Reset(next)
}

// depart ends a connection without streams. The lock is held.
func (s *Server) depart() {
	s.goAway(s.last, http2.ErrCodeNo, "")
	s.die(errClosed)
	_ = s.tr.Close()
}
