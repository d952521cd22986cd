package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// verdict is what active checks say of an endpoint.
type verdict uint8

const (
	unasked verdict = iota // or asked, without an answer yet
	passed
	failed
)

// String is the word of the admin page.
func (v verdict) String() string { return [...]string{"pending", "passed", "failed"}[v] }

// check is what the endpoints of a group are asked periodically.
type check struct {
	question
	security *security // nil: plaintext
}

// question is what a check is made of.
type question struct {
	mesh.HealthCheck
	authority string // of HTTP and gRPC requests
	server    string // the name that TLS asks for
	tls       *mesh.ClientTLS
}

// newCheck completes a policy; nil when nobody is to be asked.
func newCheck(d Destination) (*check, error) {
	if d.Policy.HealthCheck == nil {
		return nil, nil
	}
	c := &check{question: question{HealthCheck: *d.Policy.HealthCheck, authority: cmp.Or(d.Host, d.Name), tls: d.Policy.TLS}}
	if err := c.valid(); err != nil {
		return nil, err
	}
	if c.HTTP != nil {
		c.authority = cmp.Or(c.HTTP.Host, c.authority)
	}
	if c.tls == nil {
		return c, nil
	}
	c.server = cmp.Or(c.tls.SNI, d.Host)
	var err error
	c.security, err = newSecurity(c.tls, d.Host, c.alpn())
	return c, err
}

func (c *check) valid() error {
	kinds := 0
	for _, set := range []bool{c.HTTP != nil, c.TCP, c.GRPC != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New("one of HTTP, TCP and gRPC is needed")
	case c.Interval <= 0 || c.Timeout <= 0:
		return errors.New("an interval and a timeout are needed")
	case c.UnhealthyThreshold < 1 || c.HealthyThreshold < 1:
		return errors.New("the thresholds must be at least 1")
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("no such port: %d", c.Port)
	case c.HTTP == nil:
		return nil
	}
	if _, err := url.ParseRequestURI(c.HTTP.Path); err != nil {
		return fmt.Errorf("no path to ask for: %w", err)
	}
	return nil
}

// alpn is what is offered to speak behind TLS.
func (c *check) alpn() []string {
	switch {
	case c.GRPC != nil:
		return []string{http2Only.String()}
	case c.HTTP != nil:
		return []string{http1Only.String()}
	default:
		return c.tls.ALPN
	}
}

// address is where an endpoint is asked.
func (c *check) address(e *Endpoint) string { return mesh.HostPort(e.Address, cmp.Or(c.Port, e.Port)) }

// same reports whether both ask the same in the same way.
func (c *check) same(other *check) bool { return reflect.DeepEqual(c.question, other.question) }

// errAnswer is the error of an answer that is not the expected one, as opposed to none.
var errAnswer = errors.New("unexpected answer")

// asking is one check of one endpoint, as long as a configuration asks for it.
type asking struct {
	check   *check
	address string
	end     context.CancelFunc
	row     int // of answers against the verdict; 0 at the start. Under the roster's lock, like the rest of the member
	started bool
}

// hear takes an answer in and gives the verdict then (Envoy's rules): the first decides; later, it takes as many in a row as the thresholds say, but of wrong answers one.
func (a *asking) hear(had verdict, err error) verdict {
	if err == nil {
		switch a.row++; {
		case had == passed:
			a.row = 0
		case !a.started || a.row >= a.check.HealthyThreshold:
			had, a.row = passed, 0
		}
	} else {
		switch a.row++; {
		case had == failed:
			a.row = 0
		case !a.started || errors.Is(err, errAnswer) || a.row >= a.check.UnhealthyThreshold:
			had, a.row = failed, 0
		}
	}
	a.started = true
	return had
}

// checks are all that are asked, and own the goroutines that ask. The zero value is ready.
type checks struct {
	running sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	ends    map[*asking]context.CancelFunc

	attempts, successes, failures atomic.Uint64
}

// begin asks an endpoint from now on until it is ended; nil when it is too late.
func (cs *checks) begin(c *check, e *Endpoint, r *roster, o *Options) *asking {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &asking{check: c, address: c.address(e)}
	a.end = func() {
		cancel()
		cs.mu.Lock()
		defer cs.mu.Unlock()
		delete(cs.ends, a)
	}
	if cs.ends == nil {
		cs.ends = map[*asking]context.CancelFunc{}
	}
	cs.ends[a] = cancel
	m := e.state
	cs.running.Go(func() { cs.ask(ctx, a, r, m, o) })
	return a
}

// close ends all, and returns when they have.
func (cs *checks) close() {
	cs.mu.Lock()
	cs.closed = true
	for _, end := range cs.ends {
		end()
	}
	cs.ends = nil
	cs.mu.Unlock()
	cs.running.Wait()
}

// maxJitter is the part of an interval that the next one may take longer, so that the sidecars of many callers do not ask at the same time.
const maxJitter = 0.1

// impatience is how soon an endpoint that has never been well is asked a second time; each further time takes twice as long, up to the interval. Sidecars that begin together ask before those whom they ask listen, and
// would know nobody for a whole interval. (Envoy asks at its interval, which is why its users shorten it.)
const impatience = 50 * time.Millisecond

// ask asks one endpoint again and again.
func (cs *checks) ask(ctx context.Context, a *asking, r *roster, m *member, o *Options) {
	p := newProbe(a.check, a.address, o)
	defer p.close()
	for interval := min(impatience, a.check.Interval); ; interval = min(2*interval, a.check.Interval) {
		err := within(ctx, a.check.Timeout, p.ask)
		if ctx.Err() != nil {
			return
		}
		cs.count(err)
		if r.hear(m, a, err, o.Now()) == passed {
			interval = a.check.Interval
		}
		jitter := float64(o.Chance()>>11) / (1 << 53) * maxJitter
		wait := time.NewTimer(interval + time.Duration(jitter*float64(interval)))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}

func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return do(ctx)
}

func (cs *checks) count(err error) {
	cs.attempts.Add(1)
	if err == nil {
		cs.successes.Add(1)
	} else {
		cs.failures.Add(1)
	}
}

// hear lets an answer change what is known of an endpoint, and tells the verdict then. A good one ends its ejection, too, as in Envoy.
func (r *roster) hear(m *member, a *asking, err error, now time.Duration) verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.asking != a {
		return m.verdict // another check has taken over
	}
	had := m.verdict
	m.verdict, m.checkErr = a.hear(had, err), err
	if m.verdict != had {
		r.version.Add(1)
		if m.verdict == passed {
			m.since = now
			r.warm.open()
		}
	}
	if err == nil && m.verdict == passed && m.ejection.active {
		m.ejection.last = now
		r.readmitIf(func(one *member) bool { return one == m })
	}
	return m.verdict
}
