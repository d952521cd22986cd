package proxy

import (
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
)

// local answers the request here, and says why.
func (s *stream) local(status int, reason string, flags Flags) {
	s.reply(&http1.Reply{Status: status}, reason, flags)
}

// reply writes an answer of our own. What the caller still sends is not waited for.
func (s *stream) reply(r *http1.Reply, reason string, flags Flags) {
	s.result.status, s.result.reason, s.result.byMesh = r.Status, reason, true
	s.result.flags |= flags
	e := &s.replies
	e.Delete(mesh.HeaderReason)
	if s.stranger() {
		reason = ""
	}
	if reason != "" {
		e.Add(mesh.HeaderReason, reason)
	}
	switch {
	case s.grpc && r.Status >= 400:
		s.replyGRPC(r, reason)
	case r.Body == nil && reason != "" && r.Status >= 400:
		r.ContentType, r.Body = "text/plain", []byte(reason)
	}
	e.Set("date", ownDates.at(time.Now()))
	s.sign()
	s.keep = s.keep && s.body.Done() && !s.srv.draining.Load()
	e.Close = !s.keep
	r.HeadOnly = s.req.Method == http1.HEAD
	s.out = http1.AppendReply(s.out[:0], r, e)
	s.result.sent = int64(len(r.Body))
	s.write(s.out)
}

// stranger reports whether the caller must not see what is the mesh's own.
func (s *stream) stranger() bool { return s.role.edge && s.role.way != inboundWay && !s.trusted }

// sign tells the run's own load which configuration answered.
func (s *stream) sign() {
	if s.trusted {
		s.replies.Set(mesh.HeaderConfig, s.cfg.generationText)
	}
}

// write sends bytes to the caller; when that is not possible any more, he has gone.
func (s *stream) write(p []byte) bool {
	s.c.alarm.enter(streaming, s.srv.now()+s.srv.opts.Timeouts.Stream, nil, s.c.sock, nil)
	_, err := s.c.sock.Write(p)
	s.c.settle()
	if err != nil {
		s.lost(reasonCallerGone, FlagDownstreamTerminated)
	}
	return err == nil
}

// lost says that the caller did not get a whole answer.
func (s *stream) lost(reason string, flags Flags) {
	s.result.broken, s.result.reason = true, reason
	s.result.flags |= flags
	s.keep = false
}

// lostByUs says so when the sidecar itself is the reason: it stops.
func (s *stream) lostByUs() {
	s.srv.cut.Add(1)
	s.result.byMesh = true
	s.lost(reasonShutdown, 0)
}

// redirect answers as the rule says.
func (s *stream) redirect(hit route.Hit) {
	s.scratch.path = hit.AppendLocation(s.scratch.path[:0], s.c.scheme(), &s.req)
	applyEdits(&s.replies, hit.Rule.Response)
	s.replies.AddBytes("location", s.scratch.path)
	s.reply(&http1.Reply{Status: hit.Rule.Route.Redirect.Code, Body: []byte{}}, ReasonRedirect, 0)
}

// directResponse answers with what the route says.
func (s *stream) directResponse(r *mesh.DirectResponse) {
	applyEdits(&s.replies, s.hit.Rule.Response)
	body := r.Body
	if body == nil {
		body = []byte{}
	}
	reply := &http1.Reply{Status: r.Status, Body: body}
	if len(body) > 0 {
		reply.ContentType = "text/plain"
	}
	s.reply(reply, ReasonDirectResponse, 0)
}
