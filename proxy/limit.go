package proxy

import (
	"strconv"

	"meshtest.dev/meshtest/proxy/ratelimit"
	"meshtest.dev/meshtest/proxy/route"
)

// limited holds the caller to the workload's rate limits, and reports whether the request was answered because of one. They are for requests to the workload; at a sidecar that takes none, a gateway, they are for
// all that come.
func (s *stream) limited() bool {
	limiter := s.cfg.limiter
	if len(limiter.Limits()) == 0 || s.role.way != inboundWay && len(s.cfg.inbound.Listen) > 0 {
		return false
	}
	return s.holdTo(limiter, s.role.port)
}

// limitedTo holds the caller to the rate limits of where the request goes, if it is this sidecar that does so, and reports whether it was answered because of one.
func (s *stream) limitedTo(arm *route.Arm) bool {
	if len(s.cfg.upstreamLimits) == 0 {
		return false
	}
	return s.holdTo(s.cfg.upstreamLimits[arm.Host], arm.Port)
}

// holdTo asks a limiter about the request to a port, and carries out what it says.
func (s *stream) holdTo(limiter *ratelimit.Limiter, port int) (answered bool) {
	v := limiter.Allow(s.srv.now(), &s.req, port, s.callingService())
	if v.Limit == nil {
		return false
	}
	if v.Limit.Tell {
		s.tellLimit(&v)
	}
	if v.Refused {
		s.local(v.Limit.Status, ReasonRateLimited, FlagRateLimited)
	}
	return v.Refused
}

// callingService is the service of the workload that sent the request, as its sidecar says; empty when nobody does.
func (s *stream) callingService() string {
	kind, _ := kindOf(s.grpc)
	to := s.role.received[kind]
	if to == nil {
		return ""
	}
	return s.c.peers.Service(to, "", s.peer)
}

func (s *stream) tellLimit(v *ratelimit.Verdict) {
	for _, h := range [...]struct {
		name  string
		value int
	}{{ratelimit.HeaderLimit, v.Limit.Size}, {ratelimit.HeaderRemaining, v.Remaining}, {ratelimit.HeaderReset, v.Reset()}} {
		s.scratch.number = strconv.AppendInt(s.scratch.number[:0], int64(h.value), 10)
		s.replies.AddBytes(h.name, s.scratch.number)
	}
}

// countLimits tells what the limits do, by their names with a prefix. Their counts go on from one configuration to the next.
func (s *Server) countLimits(prefix string, l *ratelimit.Limiter) {
	limits := l.Limits()
	for i := range limits {
		limit := &limits[i]
		tell := func(name string, of func(ratelimit.Counts) uint64) {
			s.opts.Counters.Total(func() uint64 { return of(limit.Counts()) }, name, "limit", prefix+limit.Name)
		}
		tell("ratelimit_allowed_total", func(c ratelimit.Counts) uint64 { return c.Allowed })
		tell("ratelimit_refused_total", func(c ratelimit.Counts) uint64 { return c.Refused })
		tell("ratelimit_evicted_total", func(c ratelimit.Counts) uint64 { return c.Evicted })
	}
}
