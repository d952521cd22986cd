package http2

import (
	"cmp"
	"time"

	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/proxy/http1"
)

// defaultMaxStreams is Envoy's limit for an edge, and what RFC 9113, 6.5.2 recommends not to go below.
const defaultMaxStreams = 100

// ServerOptions are what a server is made with. Only Serve is needed; the zero value of another field means its default.
type ServerOptions struct {
	Serve func(*Stream)       // carries one exchange, and returns when it is over: the stream is closed then; called on a goroutine of its own
	Count func(reason string) // is told of every connection and stream that is ended because of the peer, by its Reason; must not wait
	// Refused is told of every request that was answered without being served, because its head is beyond the limits; must not wait. May be nil.
	Refused func(status int, reason string)

	Limits       *http1.Limits        // of heads; default http1.DefaultLimits
	MaxStreams   uint32               // at once; default 100
	MaxRequests  uint32               // on one connection, which is then ended in good order; default 10,000
	StreamWindow int                  // bytes that a peer may send on a stream before they are read; default 64 KiB
	ConnWindow   int                  // and on all streams together, at least 65,535; default 1 MiB
	Resets       int                  // streams that may end at once before they were of any use; default 500, 100 more each second, and one for each stream that ends well
	Header       time.Duration        // for a whole header block; default 10 s
	Settings     time.Duration        // for the preface and the acknowledgement of our settings; default 10 s
	Idle         time.Duration        // without a stream; default 60 s
	Stall        time.Duration        // for the peer to take anything of what is written, or to give a window to what waits; default 30 s
	Patience     time.Duration        // instead of Stall, while at most 8 streams wait: that holds little; default Stall
	Ping         time.Duration        // of silence before the peer is asked whether he is there; default never
	PingTimeout  time.Duration        // for him to say so; default 10 s
	NoUpgrades   bool                 // do not offer extended CONNECT, by which WebSockets come (RFC 8441)
	Now          func() time.Duration // monotonic; default: since the call
}

// Server is a caller's connection.
type Server struct {
	conn
	opts ServerOptions

	active   int    // streams that Serve has not let go of
	open     uint32 // places that are taken: of streams that are neither whole nor let go of
	accepted uint32 // streams
	highest  uint32 // stream that was opened
	last     uint32 // stream that was taken
	quiet    time.Duration
	drainAt  time.Duration // when the last GOAWAY is due at the latest
	final    bool          // it was sent
}

// NewServer takes over a connection. Run carries it.
func NewServer(tr Transport, o ServerOptions) *Server {
	o.MaxStreams = cmp.Or(o.MaxStreams, defaultMaxStreams)
	o.MaxRequests = cmp.Or(o.MaxRequests, 10_000)
	o.Idle = cmp.Or(o.Idle, time.Minute)
	s := &Server{opts: o}
	s.init(tr, s, &common{
		limits: o.Limits, tell: o.Count, now: o.Now, sizes: sizes{o.StreamWindow, o.ConnWindow},
		times: times{header: o.Header, settings: o.Settings, stall: o.Stall, patience: o.Patience, ping: o.Ping, pingTimeout: o.PingTimeout},
	})
	s.meter.refused = float64(cmp.Or(o.Resets, 500))
	return s
}

// common are the options that both sides have.
type common struct {
	limits *http1.Limits
	tell   func(string)
	now    func() time.Duration
	sizes  sizes
	times  times
}

func (o *common) withDefaults() *common {
	if o.limits == nil {
		o.limits = http1.DefaultLimits()
	}
	if o.tell == nil {
		o.tell = func(string) {}
	}
	if o.now == nil {
		start := time.Now()
		o.now = func() time.Duration { return time.Since(start) }
	}
	o.sizes.stream = cmp.Or(o.sizes.stream, 64<<10)
	o.sizes.conn = max(cmp.Or(o.sizes.conn, 1<<20), initialWindow)
	o.times.header = cmp.Or(o.times.header, 10*time.Second)
	o.times.settings = cmp.Or(o.times.settings, 10*time.Second)
	o.times.stall = cmp.Or(o.times.stall, 30*time.Second)
	o.times.patience = cmp.Or(o.times.patience, o.times.stall)
	o.times.stall = min(o.times.stall, o.times.patience)
	o.times.pingTimeout = cmp.Or(o.times.pingTimeout, 10*time.Second)
	return o
}

// Run carries the connection until it ends, and returns when nothing of it is left. The bytes that were read of it already come first; they are to begin with the client's preface.
func (s *Server) Run(first []byte) {
	s.in.b = first
	s.carry(s.begin)
	s.jobs.Wait()
}

// begin exchanges prefaces.
func (s *Server) begin() error {
	s.mu.Lock()
	all := []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: s.opts.MaxStreams}}
	if !s.opts.NoUpgrades {
		all = append(all, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	}
	s.greet(all...)
	s.quiet = s.now()
	s.arm(s.quiet + s.opts.Idle)
	s.kick()
	s.mu.Unlock()

	preface := make([]byte, len(http2.ClientPreface))
	for n := range preface { // byte by byte, so that what is none ends at once
		if _, err := s.in.Read(preface[n : n+1]); err != nil {
			return err
		}
		if preface[n] != http2.ClientPreface[n] {
			return &connectionError{http2.ErrCodeProtocol, ReasonPreface, "not the preface of HTTP/2"}
		}
	}
	return nil
}

func (s *Server) idle(id uint32) bool { return id > s.highest || id%2 == 0 }

// blockCame takes a request, or the trailers of one.
func (s *Server) blockCame(id uint32, ended bool) error {
	if id%2 == 0 {
		return protocol("a stream that only a server may open")
	}
	s.meter.progress++
	if st := s.streams[id]; st != nil {
		return s.trailersCame(st, ended)
	}
	if id <= s.highest {
		switch known, reset := s.past.find(id); {
		case reset:
			return nil // it was on its way
		case known:
			return closedStream("HEADERS on a stream that is over")
		default:
			return protocol("a stream that is opened too late")
		}
	}
	s.highest = id
	if s.final {
		s.past.add(id, true)
		return s.meter.spend(kindStray, s.now()) // the client sends it again, elsewhere
	}
	s.last = id
	return s.accept(id, ended)
}

// trailersCame takes the fields behind a request's body. The lock is held.
func (s *Server) trailersCame(st *Stream, ended bool) error {
	switch {
	case st.recv.ended:
		return closedStream("HEADERS behind the end of its stream")
	case !ended || !st.receivedTrailers(&s.block):
		return s.refuse(st, http2.ErrCodeProtocol, ReasonMalformed)
	default:
		return nil
	}
}

// accept begins a stream with the request that was decoded. The lock is held.
func (s *Server) accept(id uint32, ended bool) error {
	switch {
	case s.open >= s.opts.MaxStreams:
		return s.turnAway(id, http2.ErrCodeRefusedStream, ReasonStreams)
	case s.block.selfish:
		return s.turnAway(id, http2.ErrCodeProtocol, ReasonMalformed)
	case s.block.tooLarge:
		return s.answerTooLarge(id, ended)
	}
	st := s.newStream(id)
	text, m, ok := s.block.appendRequest(st.scratch.text, ended, !s.opts.NoUpgrades)
	st.scratch.text = text
	if !ok || len(text) > s.lim.HeaderBytes {
		st.closed = true
		st.release()
		if ok {
			return s.answerTooLarge(id, ended)
		}
		return s.turnAway(id, http2.ErrCodeProtocol, ReasonMalformed)
	}
	st.method, st.upgrade = methodOf(s.block.method), s.block.pseudo&hasProtocol != 0
	if st.upgrade {
		st.method = http1.GET
	}
	st.recv.kind, st.recv.left, st.recv.headed, st.recv.ended = m.kind, m.left, true, ended
	s.streams[id] = st
	st.placed = true
	s.open++
	s.active++
	if s.accepted++; s.accepted == s.opts.MaxRequests {
		s.tell(ReasonRequests)
		s.drain()
	}
	s.jobs.Go(func() { s.serve(st) })
	return nil
}

func methodOf(name string) http1.Method {
	switch name {
	case "GET":
		return http1.GET
	case "HEAD":
		return http1.HEAD
	case "CONNECT":
		return http1.CONNECT
	default:
		return http1.MethodOther
	}
}

// serve lets a stream be served, and gives its place free.
func (s *Server) serve(st *Stream) {
	defer func() { // of a panic, too, which is not ours to recover from
		_ = st.Close()
		s.mu.Lock()
		s.over(st)
		if s.active--; s.active == 0 {
			s.quiet = s.now()
			if s.final || s.goAway {
				s.arm(s.quiet)
			}
		}
		s.mu.Unlock()
	}()
	s.opts.Serve(st)
}

// answerTooLarge answers a request whose head is beyond the limits (RFC 9113, 10.5.1). The lock is held.
func (s *Server) answerTooLarge(id uint32, ended bool) error {
	s.tell(ReasonHeaders)
	s.enc.buf.Reset()
	s.enc.static(":status", "431")
	s.enc.static("content-length", "0")
	b := s.enc.appendTo(s.out.bytes(), id, true, s.peer.maxFrame)
	if !ended {
		b = appendReset(b, id, http2.ErrCodeNo)
	}
	s.out.set(b)
	s.past.add(id, !ended)
	s.kick()
	if s.opts.Refused != nil {
		s.opts.Refused(431, ReasonHeaders)
	}
	return s.meter.spend(kindRefused, s.now())
}

// over gives the place of a stream free. The lock is held.
func (s *Server) over(st *Stream) {
	if st.placed {
		st.placed = false
		s.open--
	}
}

// resetCame counts a stream that the peer did not let come to anything. The lock is held.
func (s *Server) resetCame(*Stream) error { return s.meter.spend(kindRefused, s.now()) }

// Drain says that no more requests are taken. Those that are on their way or in flight finish; then the connection ends.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
}

// drainGrace is how long the answer to the PING between the two GOAWAYs is waited for.
const drainGrace = time.Second

// drain sends the first GOAWAY, which refuses nothing, and a PING: when its answer is there, so is every request that was sent without knowing (RFC 9113, 6.8). The lock is held.
func (s *Server) drain() {
	if s.draining || s.dead != nil {
		return
	}
	s.draining = true
	b := appendGoAway(s.out.bytes(), maxStreamID, http2.ErrCodeNo, "")
	s.out.set(appendPing(b, drainPing, 0))
	s.drainAt = s.now() + drainGrace
	s.arm(s.drainAt)
	s.kick()
}

// drained sends the last GOAWAY. The lock is held.
func (s *Server) drained() {
	if !s.draining || s.final || s.dead != nil {
		return
	}
	s.final = true
	s.out.set(appendGoAway(s.out.bytes(), s.last, http2.ErrCodeNo, ""))
	s.kick()
	s.arm(s.now())
}

// due ends a connection that nobody needs any more. The lock is held.
func (s *Server) due(now time.Duration) time.Duration {
	if s.draining && !s.final {
		if now < s.drainAt {
			return s.drainAt
		}
		s.drained()
	}
	switch {
	case s.active > 0:
		return 0
	case s.final || s.goAway:
		s.leave(&connectionError{code: http2.ErrCodeNo})
		return 0
	case now >= s.quiet+s.opts.Idle:
		s.leave(&connectionError{code: http2.ErrCodeNo, reason: ReasonIdle, text: "idle"})
		return 0
	default:
		return s.quiet + s.opts.Idle
	}
}

// Abort ends the connection and all of its streams.
func (s *Server) Abort() { s.abort() }
