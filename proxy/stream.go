package proxy

import (
	"bytes"
	"sync/atomic"
	"time"
	"unsafe"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/socket"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/upstream"
)

// stream is one logical request and its answer, with all the memory that they need. It is used again for other requests.
type stream struct {
	c    *conn
	srv  *Server
	cfg  *config
	role *role

	in   inbox // from the caller: the head, pinned until the request is over, and what came with it
	more inbox // from the caller, behind that
	up   inbox // from the upstream
	out  []byte

	req, resp http1.Head
	edits     http1.Edits // of the request
	replies   http1.Edits // of the answer
	body      http1.BodyScanner
	answer    http1.BodyScanner
	messages  messages
	sent      sentBody
	upload    upload
	timer     *time.Timer
	scratch   scratch
	exchange  Exchange
	tried     []*upstream.Pool
	effects   []pending // verdicts whose answer is not written yet
	began     time.Duration
	present   time.Duration // when somebody last looked at the clock: the request has not waited since
	sending   time.Duration // when the first attempt began; 0: it has not
	trying    atomic.Int64  // when the present attempt began, in nanoseconds; 0: there is none, or its answer is being passed on
	attempt   uint32        // from 1
	marks     Flags         // of the filters, for the request or the present attempt
	torn      bool          // the request was not wholly written to the upstream
	retrying  bool          // the present attempt counts against the retry budget
	head      int           // length of the request's head, when that was read already
	carried   bool          // the request is over
	keep      bool          // the connection can carry another request
	breaks    bool          // the connection has to break, so that an incomplete answer does not look whole: where its end is the connection's
	preface   []byte        // what came is not HTTP/1.1 but the beginning of HTTP/2

	// What the request is.
	key        string // the caller's bytes, or scratch
	serverName string // that a connection of TLS asks for, if it was looked for
	peer       []byte // who sends it, as his sidecar says; at the workload's side
	grpc       bool   // it is a call of gRPC
	minted     bool   // the caller sent none
	trusted    bool   // the caller showed the run's token
	cookie     string // the value of the one that the caller is given, by which his next requests come to the same endpoint
	table      *route.Table
	hit        route.Hit
	dest       *destination
	chosen     *upstream.Endpoint

	// What it may take.
	timeout  time.Duration // of all attempts together; 0: whatever
	perTry   time.Duration // of one attempt; 0: whatever
	deadline bool          // the timeout is the caller's own
	retry    *mesh.Retry   // nil: none
	retryOn  route.RetryOn // its conditions

	ends               time.Duration // when a tunnel's connection has to be closed; 0: whenever
	movedUp, movedDown atomic.Int64  // bytes of a tunnel

	traced     traced
	answeredAt time.Duration // when the head of the answer was there; 0: it was not

	result result
}

// scratch is where small things are written that live as long as the request.
type scratch struct {
	key   [32]byte
	span  [16]byte
	trace [128]byte

	traceID [32]byte // of a trace that began here
	sampled byte     // '1' or '0'
	path    []byte

	edits []route.Edit

	number []byte
}

// result is how the request ended, for those who remember it.
type result struct {
	status     int // of the answer; 0: none
	grpc       int // status of a call of gRPC; noGRPC: none
	flags      Flags
	reason     string // why the mesh answered, or why there was no whole answer
	byMesh     bool   // the mesh answered, here or at the next sidecar
	broken     bool   // the caller did not get a whole answer
	attempts   int
	attemptsKO int
	sent       int64 // payload bytes of the answer
}

func newStream() *stream {
	s := &stream{out: make([]byte, 0, 4<<10), result: result{grpc: noGRPC}}
	s.upload.done = make(chan struct{}, 1)
	return s
}

// begin gives the stream to a connection.
func (s *stream) begin(c *conn) { s.c, s.srv = c, c.srv }

// maxKept is the size of scratch memory beyond which it is not kept for the next request.
const maxKept = 64 << 10

// release forgets the request, and gives the memory back.
func (s *stream) release() {
	s.forget()
	s.recycle()
}

// recycle gives the memory back, in which there is no request.
func (s *stream) recycle() {
	s.in.release()
	s.more.release()
	s.up.release()
	if cap(s.out) > maxKept {
		s.out = make([]byte, 0, 4<<10)
	}
	s.c, s.srv, s.cfg, s.role = nil, nil, nil, nil
	streams.Put(s)
}

// abandon lets go of everything outside the stream, which is not used again.
func (s *stream) abandon() {
	s.settleEffects()
	if to := s.upload.to; s.upload.running {
		s.stopUpload()
		_ = to.Close()
	}
}

// forget drops what belongs to one request, and nothing that belongs to the next.
func (s *stream) forget() {
	s.req.Reset()
	s.resp.Reset()
	s.edits.Reset()
	s.replies.Reset()
	s.messages.reset()
	s.sent.reset()
	clear(s.tried)
	s.tried = s.tried[:0]
	s.effects = s.effects[:0]
	s.preface = nil
	s.sending, s.attempt, s.marks, s.torn = 0, 0, 0, false
	s.head, s.carried, s.keep, s.breaks = 0, false, false, false
	s.trying.Store(0)
	s.upload.failed.Store(false)
	s.serverName, s.cookie = "", ""
	s.key, s.peer, s.grpc, s.minted, s.trusted = "", nil, false, false, false
	s.timeout, s.perTry, s.deadline, s.retry, s.retryOn = 0, 0, false, nil, route.RetryOn{}
	s.table, s.hit, s.dest, s.chosen = nil, route.Hit{}, nil, nil
	s.exchange = Exchange{}
	s.traced, s.answeredAt, s.ends = traced{}, 0, 0
	s.result = result{grpc: noGRPC}
}

// serve carries one request, of which some bytes are there, and reports whether the connection can carry another.
func (s *stream) serve() bool {
	s.began = s.look()
	wrong, asked := s.readHead()
	if !asked || !s.carry(wrong) {
		return false
	}
	s.forget()
	return true
}

// whole reads the head of a request, and reports whether nothing more is to be read for the request. What is wrong with it, or missing, serve finds out.
func (s *stream) whole() bool {
	n, err := http1.ParseRequest(s.in.bytes(), &s.req, s.srv.opts.Limits)
	if err != nil {
		return false
	}
	s.head = n
	if s.req.Upgrade || s.req.Method == http1.CONNECT || !s.req.Body.Within(s.in.len()-n) {
		return false
	}
	s.in.skip(n)
	return true
}

// carry carries a request of which the head is there, or refuses it for what is wrong with that, and reports whether the connection can carry another. Otherwise it ends with part.
func (s *stream) carry(wrong *refusal) bool {
	stays := s.c.resolve(s.srv.config.Load())
	s.cfg, s.role = s.c.cfg, s.c.role
	s.keep = wrong == nil && s.req.KeepAlive && stays && s.c.parent == nil
	s.grpc = wrong == nil && isGRPC(&s.req)
	s.identify()
	switch {
	case wrong != nil:
		s.refuse(wrong)
	case s.beginBody():
		s.direct()
	}
	s.record()
	s.endBody()
	s.carried = true
	s.c.used, s.c.quiet = true, s.present
	return s.keep
}

// look looks at the clock. That costs as much as a tenth of the parser, so it is done only after waits.
func (s *stream) look() time.Duration {
	s.present = s.srv.now()
	return s.present
}

// part is the end of a connection's last request, if there was one. It waits for a caller who has sent more than was read: a reset because of that could overtake the answer.
func (s *stream) part() {
	switch {
	case s.breaks:
		s.c.sock.Abort()
	case !s.carried || s.result.broken:
	case !s.body.Done() || s.in.len() > 0 || s.c.sock.Look() == socket.Ready:
		s.c.linger()
	}
}

// refusal is why a request was refused that could not be read.
type refusal struct {
	status int
	reason string
	flags  Flags
}

// readHead reads until the head is whole, or says what is wrong with it. Who went before he had sent a whole one, or speaks HTTP/2, has asked for nothing.
func (s *stream) readHead() (wrong *refusal, asked bool) {
	n, err := s.head, error(nil)
	if n == 0 {
		n, err = http1.ParseRequest(s.in.bytes(), &s.req, s.srv.opts.Limits)
	}
	if err == http1.ErrNeedMore {
		n, err = s.readMoreHead()
	}
	if err == nil {
		s.in.skip(n)
		return nil, true
	}
	var broken *http1.ProtocolError
	switch {
	case err == http1.ErrHTTP2Preface && s.beginsHTTP2():
		s.preface = bytes.Clone(s.in.bytes())
	case err == errHeaderTimeout:
		s.req.Rebind(s.in.bytes()) // what had come may have moved since it was looked at
		s.srv.count.refused.with(ReasonHeaderTimeout).Inc()
		return &refusal{408, ReasonHeaderTimeout, FlagDurationTimeout}, true
	case asProtocol(err, &broken):
		s.srv.count.bad[broken.Index].Inc()
		return &refusal{broken.Status, broken.Reason, FlagDownstreamProtocol}, true
	default:
		s.srv.count.closed.with(reasonRequestCut).Inc()
	}
	return nil, false
}

// readMoreHead goes on reading a head, until the whole of it has taken too long.
func (s *stream) readMoreHead() (n int, err error) {
	s.c.alarm.enter(readingHead, s.began+s.srv.opts.Timeouts.Header, nil, s.c.sock, nil)
	for err = http1.ErrNeedMore; err == http1.ErrNeedMore; {
		if err = s.in.fill(s.c.sock); err == nil {
			n, err = http1.ParseRequest(s.in.bytes(), &s.req, s.srv.opts.Limits)
		}
	}
	if s.c.settle() == readingHead && err != nil {
		err = errHeaderTimeout
	}
	return n, err
}

// refuse answers a request that could not be read, and ends the connection. What was read of it stays known; whether its key was dropped on the way here nobody knows.
func (s *stream) refuse(r *refusal) {
	s.minted = false
	s.body.Reset(http1.Body{}, http1.Request, s.srv.opts.Limits)
	s.local(r.status, r.reason, r.flags)
}

// text sees bytes as a string that is valid as long as they are.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// record tells those who remember how the request ended.
func (s *stream) record() {
	if s.probe() {
		s.srv.count.probes.Inc()
		return
	}
	r := &s.result
	latency := s.look() - s.began
	s.requests().Record(telemetry.Outcome{
		Code: r.status, GRPCStatus: r.grpc, Flags: uint32(r.flags), Duration: latency,
		RequestBytes: s.body.PayloadBytes(), ResponseBytes: r.sent,
	})
	s.tellMessages()
	s.spanned(r.status, r.flags, r.reason)
	s.logged(latency)
	if s.role.way == inboundWay {
		return
	}
	records, version := s.role.unrouted, ""
	if s.dest != nil {
		records = s.dest.records
		if version = s.dest.version(); version == "" && s.chosen != nil {
			version = s.chosen.Version
		}
	}
	recorder := records.of(version)
	if recorder == nil {
		return
	}
	fault := r.flags&FlagFaultInjected != 0
	recorder.Record(telemetry.Sample{
		Key: s.key, Generation: s.cfg.generation, Status: r.judged(), Failed: r.broken, ByFault: fault, ByMesh: r.byMesh && !fault, Reason: r.reason,
		Attempts: r.attempts, AttemptsKO: r.attemptsKO, Latency: latency, Minted: s.minted,
	})
}

// probe reports whether somebody asks the workload whether it lives: a sidecar because of a health check, or the kubelet when traffic is captured. Those are no traffic of the mesh; they are counted apart.
func (s *stream) probe() bool {
	agent := s.req.Get(http1.UserAgent)
	return s.role.way == inboundWay && string(agent) == upstream.CheckAgent || s.c.at.way == capturedInWay && bytes.HasPrefix(agent, kubeletAgent)
}

// kubeletAgent begins the user agent of every probe.
var kubeletAgent = []byte("kube-probe/")

// requests are the metrics of the kind of traffic that the request was.
func (s *stream) requests() telemetry.Requests {
	switch {
	case s.role.way == inboundWay:
		kind, _ := kindOf(s.grpc)
		return s.c.peers.Requests(s.role.received[kind], "", s.peer)
	case s.dest != nil && s.dest.group != nil:
		return s.srv.requestsTo(s.dest.group, s.dest.arm.Host, s.caller(), s.chosen, s.grpc)
	}
	_, protocol := kindOf(s.grpc)
	host := s.role.host
	switch {
	case s.table != nil:
		host = s.table.Host
	case host == "" && s.role.way == capturedOutWay:
		host = blackHole
	}
	return s.srv.opts.Metrics.Requests(telemetry.Traffic{Reporter: telemetry.Source, Source: telemetry.PeerOf(*s.caller()), Host: host, Protocol: protocol})
}

// caller is the workload whose sidecar this is.
func (s *stream) caller() *mesh.Workload {
	if s.cfg.inbound != nil {
		return &s.cfg.inbound.Workload
	}
	return &s.srv.opts.Workload
}

// version is the one that the split chose; empty when that is up to the endpoint.
func (d *destination) version() string {
	if d.arm == nil {
		return ""
	}
	return d.arm.Version
}
