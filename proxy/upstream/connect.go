package upstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"

	"meshtest.dev/meshtest/mesh"
)

// Want is what a connection is for.
type Want struct {
	Fresh     bool   // a kept connection has just turned out to be dead: it has to be a new one
	Tunnel    bool   // for bytes of any kind both ways: a connection of its own, which is refused and not waited for when there are too many
	Authority []byte // of the request, HOST[:PORT]: the server name of TLS where the policy leaves that to the request
}

// Overflow is the error of a request, or of a connection, that is one more than a limit of its destination allows.
type Overflow uint8

// Overflows, by the limit.
const (
	TooManyConnections Overflow = iota + 1 // of a tunnel, which does not wait
	TooManyPending                         // requests wait already
	TooManyRequests                        // are in flight
	TooManyRetries                         // are in flight, by the limit or by the budget
)

// Error names Envoy's counter of what happened.
func (o Overflow) Error() string {
	switch o {
	case TooManyConnections:
		return "upstream_cx_overflow: too many connections"
	case TooManyPending:
		return "upstream_rq_pending_overflow: too many requests wait for a connection"
	case TooManyRequests:
		return "upstream_rq_pending_overflow: too many requests are in flight"
	case TooManyRetries:
		return "upstream_rq_retry_overflow: too many retries are in flight"
	default:
		return fmt.Sprintf("overflow %d", uint8(o))
	}
}

// IsOverflow reports whether an error is that of a limit, and of which.
func IsOverflow(err error) (Overflow, bool) { return errors.AsType[Overflow](err) }

// Take gives a connection to an endpoint of the group if there is one at once, without any waiting; nil without an error when one has to be made or waited for: that does
// Connect. It allocates nothing on HTTP/1.1.
//
// Whoever gets a connection gives it back by Put when it can carry another request, and by Discard when not, exactly one of them and once.
func (g *Group) Take(e *Endpoint, w Want) (*Conn, error) {
	if w.Tunnel {
		return nil, nil
	}
	if m := g.limits.MaxRequests; m > 0 && g.account.requests.Load() >= int64(m) {
		return nil, g.account.overflow(TooManyRequests)
	}
	if e.Pool.waiting.Load() > 0 {
		return nil, nil // others were there before
	}
	return g.admit(e.Pool.take(g, &w))
}

// Connect gives a connection to an endpoint of the group: one that is there, one that it makes within the group's ConnectTimeout, or the next that is given back when there may be no more. How long that
// takes is up to ctx. Errors are an [Overflow]; a [HandshakeError] when TLS was not agreed on; else that of connecting, which IsTimeout tells apart; and that of ctx.
func (g *Group) Connect(ctx context.Context, e *Endpoint, w Want) (*Conn, error) {
	p := e.Pool
	for {
		if c, err := g.Take(e, w); c != nil || err != nil {
			return c, err
		}
		got, err := g.account.acquire(ctx, g, p, w)
		switch {
		case err != nil:
			return nil, err
		case got.conn != nil:
			if sound(got.conn) {
				return g.admit(got.conn)
			}
			p.drop(got.conn)
			continue
		}
		if got.victim != nil {
			got.victim.end()
		}
		c, err := p.dial(ctx, g.ConnectTimeout, &w, got.shared)
		if err != nil || w.Tunnel {
			return c, err
		}
		return g.admit(c)
	}
}

// admit counts a request that has got its connection (nil: it has not), unless too many are in flight.
func (g *Group) admit(c *Conn) (*Conn, error) {
	m := g.limits.MaxRequests
	if c == nil || m == 0 {
		return c, nil
	}
	if g.account.requests.Add(1) > int64(m) {
		g.account.requests.Add(-1)
		c.unused()
		return nil, g.account.overflow(TooManyRequests)
	}
	c.counted = true
	return c, nil
}

// BeginRetry counts a retry in flight, unless there are as many already as the destination's limit or the budget (nil: none) allows: then it reports TooManyRetries. EndRetry must follow each nil.
func (g *Group) BeginRetry(budget *mesh.RetriesBudget) error {
	percent, minimum := 0.0, math.MaxInt
	if budget != nil {
		percent, minimum = budget.Percent, budget.MinConcurrency
	}
	if !g.Load.BeginRetry(percent, minimum) {
		return g.account.overflow(TooManyRetries)
	}
	if m := g.limits.MaxRetries; g.account.retries.Add(1) > int64(m) && m > 0 {
		g.EndRetry()
		return g.account.overflow(TooManyRetries)
	}
	return nil
}

// EndRetry is the counterpart of BeginRetry.
func (g *Group) EndRetry() {
	g.account.retries.Add(-1)
	g.Load.EndRetry()
}

// IsTimeout reports whether dialing took too long, as opposed to having been refused.
func IsTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout()
}
