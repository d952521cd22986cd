package proxy

import (
	"context"
	"errors"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http2"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/socket"
	"meshtest.dev/meshtest/proxy/upstream"
)

// outcome is how one attempt ended, before anything of it was passed on.
type outcome struct {
	kind   outcomeKind
	status int // of the answer; of a failure, that with which it would be answered
	grpc   int // status in the head of an answer; 0 when there is none
	reason string
	flags  Flags
	conn   *upstream.Conn // of an answer: the rest of it is still to be read
	fresh  bool           // the connection had not carried a request before
	silent bool           // not one byte of an answer came
}

// outcomeKind tells the ways of an attempt apart.
type outcomeKind uint8

const (
	answered   outcomeKind = iota // the head of an answer is there
	verdict                       // a filter answered
	unreached                     // no connection could be made
	refused                       // the upstream refused the request before it processed anything
	unanswered                    // the connection failed before the head of an answer
	garbled                       // what came was not HTTP
	expired                       // the attempt took longer than one may
	stopped                       // the request itself is over: its time is, or the caller has gone, or his body is malformed
	nowhere                       // there is no healthy endpoint
	overflown                     // there are as many requests or connections as may be
)

// carryOn sends the request to the upstream, again if need be, and passes the answer on.
func (s *stream) carryOn() {
	if !s.gather() {
		return
	}
	if rule := s.hit.Rule; rule != nil && len(rule.Mirrors) > 0 {
		s.mirror(rule)
	}
	load := s.dest.group.Load
	load.Begin()
	defer load.End()
	defer s.endRetry()
	s.sending = s.present
	for s.attempt = 1; ; s.attempt++ {
		o := s.try()
		s.endRetry()
		if o.kind == stopped {
			s.result.flags |= s.marks
			s.interrupted()
			return
		}
		if s.again(&o) {
			if !s.prepareRetry(&o) {
				return
			}
			continue
		}
		s.result.flags |= s.marks | o.flags
		s.finish(&o)
		return
	}
}

// try makes one attempt.
func (s *stream) try() outcome {
	s.traced.attempt, s.traced.up, s.traced.unreached = s.present, nil, nil
	s.trying.Store(int64(s.traced.attempt))
	s.marks = 0
	if s.chosen == nil {
		return outcome{kind: nowhere, status: 503, reason: ReasonNoHealthy, flags: FlagNoHealthyUpstream}
	}
	if s.role.way != inboundWay {
		s.exchange.Attempt = s.attempt
		if version := s.chosen.Version; s.dest.version() == "" {
			s.exchange.Version = version
		}
		switch v, ok := s.ask(AtAttempt); {
		case !ok && s.whyStopped() == expired:
			s.count(true)
			return s.tookTooLong()
		case !ok:
			return outcome{kind: stopped}
		case v.Status != 0:
			s.settleEffects()
			s.count(mesh.Failed(v.Status))
			return outcome{kind: verdict, status: v.Status, reason: v.Reason}
		}
		s.tellAttempt()
		s.tellTimeout()
	}
	pool := s.chosen.Pool
	pool.Begin()
	defer pool.End()
	o := s.send(pool, false)
	if s.stale(&o) {
		s.srv.count.stale.Inc()
		o = s.send(pool, true)
	}
	s.report(&o)
	s.count(o.failed()) // one that was stopped was sent, too
	return o
}

// failed reports whether the attempt counts as one that failed.
func (o *outcome) failed() bool {
	return o.kind != answered || mesh.Failed(o.status) || o.grpc != grpcOK && mesh.Failed(httpOfGRPC(o.grpc))
}

// count counts an attempt.
func (s *stream) count(failed bool) {
	s.result.attempts++
	if failed {
		s.result.attemptsKO++
	}
}

// stale reports whether an attempt failed only because a kept connection had died, and may be repeated without being a retry (RFC 9112, 9.3.1): the method is idempotent, so that it
// does no harm if the upstream has seen it. One that HTTP/2 refused has not been seen at all (RFC 9113, 8.7).
func (s *stream) stale(o *outcome) bool {
	if s.sent.over {
		return false
	}
	return o.kind == refused && !o.fresh || o.kind == unanswered && !o.fresh && o.silent && s.idempotent()
}

func (s *stream) idempotent() bool {
	switch s.req.Method {
	case http1.GET, http1.HEAD, http1.OPTIONS, http1.TRACE, http1.PUT, http1.DELETE:
		return true
	default:
		return false
	}
}

// send sends the request over one connection, and reads the head of the answer.
func (s *stream) send(pool *upstream.Pool, fresh bool) outcome {
	want := upstream.Want{Fresh: fresh, Authority: s.authority()}
	conn, err := s.dest.group.Take(s.chosen, want)
	if err != nil {
		return s.unconnected(err)
	}
	fresh = conn == nil
	if fresh {
		var o outcome
		if conn, o = s.connect(want); conn == nil {
			return o
		}
		fresh = !conn.Reused // it may have been handed over by another request
	}
	s.traced.up = conn.Conn
	s.up.release()
	s.out = http1.AppendRequest(s.out[:0], &s.req, s.requestEdits())
	s.c.alarm.enter(waiting, s.until(s.present, 0), s.watchedUnless(!s.body.Done()), conn, s.c.sock)
	if err = s.writeRequest(conn); err == nil {
		err = s.readAnswerHead(conn)
	}
	why := s.c.alarm.leave()
	s.look()
	if err == nil && why == none {
		s.answeredAt = s.present
		o := outcome{kind: answered, status: s.resp.Status, conn: conn, fresh: fresh}
		if s.grpc {
			o.grpc = max(grpcStatusIn(&s.resp), grpcOK)
		}
		return o
	}
	silent := s.up.buf == nil && !errors.Is(err, http2.ErrReset) // which says something, of this request and not of the connection
	s.stopUpload()
	if why != none {
		s.c.sock.Resume()
	}
	pool.Discard(conn)
	o := s.failed(err)
	o.fresh, o.silent = fresh, silent
	return o
}

// requestEdits are the changes of the head for the present attempt.
func (s *stream) requestEdits() *http1.Edits {
	s.edits.KeepUpgrade = s.req.Upgrade
	return &s.edits
}

// maxInline bounds what is written to an upstream while nobody reads from it. It fits into the buffers of the kernel's two ends, so that an upstream which answers at length before it
// reads cannot block both sides for ever.
const maxInline = 32 << 10

// writeRequest writes the head, and behind it in one go what there is of the body. When that is all, it waits for the first bytes of the answer; else the rest follows while the answer is read.
// An upstream may have answered a request that was not wholly written all the same, so that is no error.
func (s *stream) writeRequest(conn *upstream.Conn) error {
	rest := s.sent.bytes()
	if len(s.out)+len(rest) <= maxInline {
		s.out = append(s.out, rest...)
		rest = nil
	}
	if len(rest) == 0 && s.body.Done() {
		wrote, err := s.up.ask(conn.Conn, s.out)
		s.torn = wrote != nil
		return err
	}
	_, err := conn.Write(s.out)
	if s.torn = err != nil; !s.torn {
		s.startUpload(conn, rest)
	}
	return nil
}

// connect makes a connection or waits for one, within what is left of the time.
func (s *stream) connect(want upstream.Want) (*upstream.Conn, outcome) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.c.alarm.enter(waiting, s.until(s.present, 0), s.watched(), canceler(cancel), nil)
	conn, err := s.dest.group.Connect(ctx, s.chosen, want)
	why := s.c.settle()
	s.look()
	switch {
	case err == nil && why == none && s.comesBack(conn):
		s.chosen.Pool.Discard(conn)
		return nil, outcome{kind: nowhere, status: 502, reason: ReasonLoop, flags: FlagNoCluster}
	case err == nil && why == none:
		return conn, outcome{}
	case err == nil:
		s.chosen.Pool.Discard(conn)
		return nil, s.failed(nil)
	case why != none:
		return nil, s.failed(err)
	default:
		return nil, s.unconnected(err)
	}
}

// canceler interrupts what waits with a context.
type canceler context.CancelFunc

// Interrupt cancels the context.
func (c canceler) Interrupt() { c() }

// watched is the caller's connection, if nobody reads from it who would see him go.
func (s *stream) watched() *socket.Conn { return s.watchedUnless(s.upload.running) }

func (s *stream) watchedUnless(read bool) *socket.Conn {
	if read {
		return nil
	}
	return s.c.sock
}

// maxInterim bounds the interim answers to one request.
const maxInterim = 32

// readAnswerHead reads up to the head of the final answer. Interim ones are passed on as they come.
func (s *stream) readAnswerHead(conn *upstream.Conn) error {
	exchange := http1.ExchangeOf(&s.req)
	exchange.Upgrade = s.req.Upgrade
	s.resp.Reset()
	for interim := 0; ; {
		if s.upload.running && s.upload.failed.Load() { // before the wait below could be ended because of it
			return s.upload.err
		}
		n, err := http1.ParseResponse(s.up.bytes(), &s.resp, exchange, s.srv.opts.Limits)
		switch {
		case err == http1.ErrNeedMore:
			if err = s.up.fill(conn.Conn); err != nil {
				s.resp.Reset()
				return err
			}
			continue
		case err != nil:
			s.resp.Reset()
			return err
		}
		s.up.skip(n)
		if s.resp.Status >= 200 || s.resp.Status == 101 {
			return nil
		}
		if interim++; interim > maxInterim {
			s.resp.Reset()
			return errInterim
		}
		if err := s.passInterim(); err != nil {
			return err
		}
	}
}

// passInterim passes an interim answer on, unless the caller does not know such a thing.
func (s *stream) passInterim() error {
	if s.req.Version == http1.HTTP10 {
		return nil
	}
	s.out = http1.AppendResponse(s.out[:0], &s.resp, nil)
	_, err := s.c.sock.Write(s.out)
	if err != nil {
		s.c.alarm.end(callerGone)
	}
	return err
}

// failed says what the failure of an attempt on a connection means.
func (s *stream) failed(err error) outcome {
	var wrong *http1.ProtocolError
	switch s.whyStopped() {
	case stopped:
		return outcome{kind: stopped}
	case expired:
		return s.tookTooLong()
	}
	if upstream.CertificateRefused(err) { // ours: a server of TLS 1.3 says so only behind the handshake
		s.traced.unreached = err
		return outcome{kind: unreached, status: 503, reason: ReasonCertificate, flags: FlagUpstreamFailure}
	}
	if errors.Is(err, http2.ErrRefused) {
		return outcome{kind: refused, status: 503, reason: ReasonRefused, flags: FlagUpstreamTermination}
	}
	var reset *http2.ResetError
	if err == errInterim || asProtocol(err, &wrong) || errors.As(err, &reset) && reset.Ours {
		return outcome{kind: garbled, status: 502, reason: ReasonBadResponse, flags: FlagUpstreamProtocol}
	}
	return outcome{kind: unanswered, status: 503, reason: ReasonReset, flags: FlagUpstreamTermination}
}

func (s *stream) tookTooLong() outcome {
	return outcome{kind: expired, status: 504, reason: ReasonTryTimeout, flags: FlagUpstreamTimeout}
}

// whyStopped reports whether a wait ended because the attempt is over, because the request is, or (answered) by itself.
func (s *stream) whyStopped() outcomeKind {
	if s.upload.failed.Load() {
		return stopped
	}
	switch why := s.c.alarm.why(); why {
	case none:
		return answered
	case callerGone, shuttingDown, linkedFailure:
		return stopped
	}
	whole, one := s.limits()
	now := s.srv.now()
	if one != 0 && now >= one && (whole == 0 || now < whole) {
		return expired
	}
	return stopped
}

// ranOut reports whether the request was stopped because its whole time is over.
func (s *stream) ranOut() bool {
	switch s.c.alarm.why() {
	case none, callerGone, shuttingDown, linkedFailure:
		return false
	}
	whole, _ := s.limits()
	return !s.upload.failed.Load() && whole != 0 && s.srv.now() >= whole
}

// again reports whether the policy wants another attempt, and there may be one.
func (s *stream) again(o *outcome) bool {
	policy := s.retry
	if policy == nil || !s.retriable(o) {
		return false
	}
	if int(s.attempt) > policy.Attempts {
		if policy.Attempts > 0 {
			s.marks |= FlagRetriesExceeded
		}
		return false
	}
	return !s.sent.over
}

// retriable reports whether the policy names what happened.
func (s *stream) retriable(o *outcome) bool {
	on := &s.retryOn
	switch o.kind {
	case answered:
		return on.Status(o.status) || s.grpc && on.GRPC(s.resp.Get(http1.GRPCStatus))
	case verdict:
		return on.Status(o.status)
	case unreached:
		return on.Fails(route.Unreached)
	case refused:
		return on.Fails(route.Refused)
	case unanswered, garbled, expired:
		return on.Fails(route.Interrupted)
	default:
		return false
	}
}

// prepareRetry gets ready for another attempt: it drops what the last one left, waits, and chooses an endpoint. It reports false when the request is over.
func (s *stream) prepareRetry(o *outcome) bool {
	if s.dest.group.BeginRetry(s.retry.Budget) != nil {
		s.srv.count.budget.Inc()
		s.result.flags |= s.marks | o.flags | FlagUpstreamOverflow
		s.finish(o)
		return false
	}
	s.retrying = true
	s.spanned(o.status, s.marks|o.flags, o.reason)
	s.drop(o)
	s.retrace()
	s.tried = append(s.tried, s.chosen.Pool)
	s.srv.count.retries.Inc()
	s.trying.Store(0)
	if _, _, why := s.sleep(s.backoff(), nil); why != none {
		s.interrupted()
		return false
	}
	s.choose(s.dest.arm, s.attempt+1)
	return true
}

// endRetry gives back what the present attempt took of the retry budget.
func (s *stream) endRetry() {
	if s.retrying {
		s.retrying = false
		s.dest.group.EndRetry()
	}
}

// backoff is the wait before the retry that follows the present attempt, drawn like everything else.
func (s *stream) backoff() time.Duration {
	draw := mesh.Chance(s.seed(), mesh.PurposeSample, "backoff", s.dest.arm.EdgeName, s.key, s.attempt)
	return route.Backoff(s.retry, s.attempt, draw)
}

// drop gives up an answer that is not passed on. Its connection is kept if all of it has arrived.
func (s *stream) drop(o *outcome) {
	if o.kind != answered {
		return
	}
	s.stopUpload()
	s.answer.Reset(s.resp.Body, http1.Response, s.srv.opts.Limits)
	for s.up.len() > 0 && !s.answer.Done() {
		fwd, skip, err := s.answer.Scan(s.up.bytes())
		if err != nil {
			break
		}
		s.up.skip(fwd + skip)
	}
	s.hangUp(o.conn)
}

// hangUp gives the connection of an answer back, if it can carry another request.
func (s *stream) hangUp(conn *upstream.Conn) {
	pool := s.chosen.Pool
	whole := s.answer.Done() && s.up.len() == 0 && !s.torn && s.body.Done()
	if whole && s.resp.KeepAlive {
		pool.Put(conn)
	} else {
		pool.Discard(conn)
	}
}

// finish passes the last attempt's answer on, or answers for it.
func (s *stream) finish(o *outcome) {
	if o.kind == answered {
		s.passOn(o.conn)
		return
	}
	if o.kind == overflown {
		s.replies.Add("x-envoy-overloaded", "true")
	}
	s.local(o.status, o.reason, 0)
}
