package proxy

import (
	"errors"

	"meshtest.dev/meshtest/proxy/upstream"
)

// unconnected says what it means that there is no connection.
func (s *stream) unconnected(err error) outcome {
	o := outcome{kind: unreached, status: 503, flags: FlagUpstreamFailure, fresh: true}
	var handshake *upstream.HandshakeError
	if which, is := upstream.IsOverflow(err); is {
		o.kind, o.flags, o.reason = overflown, FlagUpstreamOverflow, overflows[which]
		return o
	}
	s.traced.unreached = err
	s.srv.opts.Log.Debug("connecting to an upstream", "endpoint", s.chosen.Pool.Address, "error", err)
	switch {
	case errors.As(err, &handshake) && handshake.Refused:
		o.reason = ReasonCertificate
	case errors.As(err, &handshake):
		o.reason = ReasonHandshake
	case upstream.IsTimeout(err):
		o.reason = ReasonConnectTimeout
	default:
		o.reason = ReasonConnectFailure
	}
	return o
}

// overflows are the reasons of answers to requests that are one too many.
var overflows = map[upstream.Overflow]string{
	upstream.TooManyConnections: ReasonManyConnections, upstream.TooManyPending: ReasonManyPending, upstream.TooManyRequests: ReasonManyRequests,
}
