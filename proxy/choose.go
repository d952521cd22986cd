package proxy

import (
	"math/rand/v2"
	"net"
	"strconv"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/upstream"
)

// choose picks the endpoint of the next attempt.
func (s *stream) choose(arm *route.Arm, attempt uint32) {
	c := upstream.Choice{Draw: s.draw(arm, attempt), Tried: s.tried}
	if policy := s.dest.group.HashPolicy(); policy != nil {
		c.Hash, c.Hashed = s.hash(policy)
	}
	s.chosen = s.dest.group.Pick(c)
}

// draw is the chance by which the endpoint of an attempt is chosen.
func (s *stream) draw(arm *route.Arm, attempt uint32) mesh.Draw {
	if len(s.dest.group.Endpoints) < 2 {
		return 0
	}
	return mesh.Chance(s.seed(), mesh.PurposeSample, arm.Endpoints, arm.EdgeName, s.key, attempt)
}

// hash is the hash of what a policy names of the request; not ok when the request does not have it.
func (s *stream) hash(p *mesh.HashPolicy) (hash uint64, ok bool) {
	switch {
	case p.Header != "":
		return s.hashLine(s.req.Find(p.Header))
	case p.Query != "":
		value, ok := route.Parameter(s.req.Query(), p.Query)
		return upstream.HashOf(value), ok
	case p.SourceIP:
		host, _, err := net.SplitHostPort(s.c.sock.RemoteAddr().String())
		return upstream.HashOf([]byte(host)), err == nil
	case p.Cookie != nil:
		return s.hashCookie(p.Cookie)
	default:
		return 0, false
	}
}

func (s *stream) hashLine(line int) (hash uint64, ok bool) {
	if line < 0 {
		return 0, false
	}
	return upstream.HashOf(s.req.Value(line)), true
}

// hashCookie is that of a cookie. A request without it is given one when the policy says so, by which the next ones come to the same endpoint. It is one for all attempts.
func (s *stream) hashCookie(c *mesh.HashCookie) (hash uint64, ok bool) {
	if value := route.Cookie(&s.req, c.Name); value != nil {
		return upstream.HashOf(value), true
	}
	if c.TTL <= 0 && !c.Session {
		return 0, false
	}
	if s.cookie == "" {
		s.cookie = strconv.FormatUint(rand.Uint64(), 16) // an identifier, and no decision
		s.replies.Add("set-cookie", setCookie(c, s.cookie))
	}
	return upstream.HashOf([]byte(s.cookie)), true
}

// setCookie is how a cookie with that value is given.
func setCookie(c *mesh.HashCookie, value string) string {
	cookie := c.Name + "=" + value
	if c.TTL > 0 {
		cookie += "; Max-Age=" + strconv.Itoa(int(c.TTL.Seconds()))
	}
	if c.Path != "" {
		cookie += "; Path=" + c.Path
	}
	return cookie + "; HttpOnly"
}

// report tells the endpoint how an attempt ended, for those who eject it. What the caller gave up says nothing about it.
func (s *stream) report(o *outcome) {
	var r upstream.Result
	switch o.kind {
	case answered:
		r = upstream.Result(o.status)
		if o.grpc != grpcOK {
			r = upstream.Result(httpOfGRPC(o.grpc))
		}
	case unreached:
		r = upstream.ConnectFailed
	case unanswered, garbled, refused:
		r = upstream.Broken
	case expired:
		r = upstream.TimedOut
	case stopped:
		if !s.ranOut() {
			return
		}
		r = upstream.TimedOut
	default:
		return
	}
	s.chosen.Report(r)
}
