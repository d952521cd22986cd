package proxy

import (
	"strconv"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
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

// lostByUs says so when the sidecar itself is the reason.
func (s *stream) lostByUs() {
	s.result.byMesh = true
	s.lost(reasonShutdown, 0)
}

// redirect answers as the route says.
func (s *stream) redirect(r *mesh.Redirect) {
	to := s.scratch.path[:0]
	scheme := r.Scheme
	if scheme == "" {
		scheme = s.c.scheme()
	}
	to = append(to, scheme...)
	to = append(to, "://"...)
	to = appendAuthority(to, s.req.Host(), r)
	if r.Path != "" {
		to = append(to, r.Path...)
	} else {
		to = append(to, s.req.Path()...)
	}
	if s.req.HasQuery() {
		to = append(to, '?')
		to = append(to, s.req.Query()...)
	}
	s.scratch.path = to
	if rule := s.hit.Rule; rule != nil {
		applyEdits(&s.replies, rule.Response)
	}
	s.replies.AddBytes("location", to)
	s.reply(&http1.Reply{Status: r.Code, Body: []byte{}}, ReasonRedirect, 0)
}

// appendAuthority appends the host and port of a redirection: its own, or those of the request. A port is dropped when the scheme changes it.
func appendAuthority(to, asked []byte, r *mesh.Redirect) []byte {
	host, port := splitPort(asked)
	if r.Host != "" {
		host = []byte(r.Host)
	}
	to = append(to, host...)
	switch {
	case r.Port != 0 && !(r.Port == 80 && r.Scheme != "https") && !(r.Port == 443 && r.Scheme == "https"):
		to = append(to, ':')
		to = strconv.AppendInt(to, int64(r.Port), 10)
	case r.Port == 0 && r.Scheme == "" && len(port) > 0:
		to = append(to, ':')
		to = append(to, port...)
	}
	return to
}

func splitPort(authority []byte) (host, port []byte) {
	for i := len(authority) - 1; i >= 0; i-- {
		switch authority[i] {
		case ':':
			return authority[:i], authority[i+1:]
		case ']':
			return authority, nil
		}
	}
	return authority, nil
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
