package ratelimit

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/route"
)

// Reason is what [mesh.HeaderReason] says on the answer to a request that was refused; Envoy's flag for it is RL.
const Reason = "rate_limited"

// Headers of answers, when a limit wants them: the tokens that a bucket holds, those that are left in it, and the seconds until there is one (0: there is). Names and meaning are those of Envoy's local rate limit.
const (
	HeaderLimit     = "x-ratelimit-limit"
	HeaderRemaining = "x-ratelimit-remaining"
	HeaderReset     = "x-ratelimit-reset"
)

// MaxLimits is how many limits a workload or a service can have.
const MaxLimits = 64

// Limiter is the compiled form of the limits of a workload or a service. It may be used by many at once. A nil one limits nothing.
type Limiter struct{ limits []Limit }

// Limit is one limit of a [Limiter].
type Limit struct {
	Name   string
	Size   int  // tokens that a full bucket holds
	Status int  // of the answer to a request that is refused
	Tell   bool // answers say how much is left

	rule     mesh.RateLimit
	header   string // in lower case
	matchers []*route.Matcher
	buckets  *buckets
	counts   *counts
}

// counts only grow, and go on through configurations for a limit of the same name.
type counts struct{ allowed, refused, evicted atomic.Uint64 }

// Counts say what a limit has done so far.
type Counts struct {
	Allowed uint64 // requests that it matched and that no limit refused
	Refused uint64 // requests that it refused
	Evicted uint64 // buckets that were forgotten although they were not full
	Keys    int    // buckets that are remembered now
}

// Verdict is what shall become of a request. The zero Verdict lets it pass.
type Verdict struct {
	Limit     *Limit        // that refused it, or else the one with the fewest tokens left; nil: none matches the request
	Refused   bool          // answer with the limit's Status
	Remaining int           // tokens that are left for its key
	Next      time.Duration // until there is one; 0: there is
}

// Reset is Next in whole seconds, rounded up, for [HeaderReset].
func (v *Verdict) Reset() int { return int((v.Next + time.Second - 1) / time.Second) }

// New compiles limits. Those of an earlier limiter (prev, may be nil) with the same name keep their counts, and their buckets too when their numbers and their key are the same. The error joins all mistakes.
func New(limits []mesh.RateLimit, prev *Limiter) (*Limiter, error) {
	l := &Limiter{limits: make([]Limit, len(limits))}
	var errs []error
	if len(limits) > MaxLimits {
		errs = append(errs, fmt.Errorf("%d limits: at most %d are possible", len(limits), MaxLimits))
	}
	names := map[string]bool{}
	for i, m := range limits {
		var err error
		if l.limits[i], err = newLimit(m, prev.named(m.Name)); err != nil {
			errs = append(errs, fmt.Errorf("limit %q: %w", m.Name, err))
		}
		if names[m.Name] {
			errs = append(errs, fmt.Errorf("limit %q: there are two of the name", m.Name))
		}
		names[m.Name] = true
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return l, nil
}

func newLimit(m mesh.RateLimit, had *Limit) (Limit, error) {
	l := Limit{Name: m.Name, Status: m.Status, Tell: m.Headers, rule: m, header: strings.ToLower(m.Header)}
	r, err := newRate(m)
	errs := []error{err}
	if err == nil {
		l.Size = int(r.Full / r.Token)
	}
	if m.Name == "" {
		errs = append(errs, errors.New("a name is needed"))
	}
	if l.Status == 0 {
		l.Status = http.StatusTooManyRequests
	} else if l.Status < 400 || l.Status > 599 {
		errs = append(errs, fmt.Errorf("status %d: 400 to 599 say that a request is refused", l.Status))
	}
	for i := range m.Matches {
		matcher, err := compileMatch(&m.Matches[i])
		errs = append(errs, err)
		l.matchers = append(l.matchers, matcher)
	}
	if err := errors.Join(errs...); err != nil {
		return Limit{}, err
	}
	l.counts = &counts{}
	if had != nil {
		l.counts = had.counts
	}
	if had != nil && had.sameBuckets(&l, r) {
		l.buckets = had.buckets
	} else {
		l.buckets = newBuckets(r)
	}
	return l, nil
}

// compileMatch compiles a match of requests to the workload, of whose callers only the name is known.
func compileMatch(m *mesh.Match) (*route.Matcher, error) {
	if len(m.SourceLabels) > 0 || m.SourceNamespace != "" {
		return nil, errors.New("match: the labels and the namespace of a caller are not known here")
	}
	matcher, err := route.CompileMatch(m, nil)
	if err != nil {
		return nil, fmt.Errorf("match: %w", err)
	}
	return matcher, nil
}

// sameBuckets reports whether the buckets of two limits mean the same.
func (l *Limit) sameBuckets(other *Limit, r rate) bool {
	return l.buckets.rate == r && l.rule.Caller == other.rule.Caller && l.header == other.header
}

// named finds a limit; nil when there is none.
func (l *Limiter) named(name string) *Limit {
	for i := range l.Limits() {
		if l.limits[i].Name == name {
			return &l.limits[i]
		}
	}
	return nil
}

// Limits lists the limits in order. They are only read.
func (l *Limiter) Limits() []Limit {
	if l == nil {
		return nil
	}
	return l.limits
}

// Counts says what the limit has done so far.
func (l *Limit) Counts() Counts {
	c := l.counts
	return Counts{Allowed: c.allowed.Load(), Refused: c.refused.Load(), Evicted: c.evicted.Load(), Keys: l.buckets.keys()}
}

// Allow judges a request to a port of the service; caller names the service that sent it, and is empty when nobody knows. It only looks at the request during the call.
func (l *Limiter) Allow(now time.Duration, req route.Request, port int, caller string) (v Verdict) {
	limits := l.Limits()
	var took uint64 // the limits of which a token was taken
	for i := range limits {
		limit := &limits[i]
		if !limit.matches(req, port) {
			continue
		}
		t := limit.buckets.take(limit.key(req, caller), now, &limit.counts.evicted)
		if !t.ok {
			l.giveBack(took, req, caller)
			limit.counts.refused.Add(1)
			return Verdict{Limit: limit, Refused: true, Remaining: t.remaining, Next: t.next}
		}
		took |= 1 << i
		if v.Limit == nil || t.remaining < v.Remaining {
			v = Verdict{Limit: limit, Remaining: t.remaining, Next: t.next}
		}
	}
	for rest := took; rest != 0; rest &= rest - 1 {
		limits[bits.TrailingZeros64(rest)].counts.allowed.Add(1)
	}
	return v
}

// giveBack returns the tokens that a request took before it was refused.
func (l *Limiter) giveBack(took uint64, req route.Request, caller string) {
	for ; took != 0; took &= took - 1 {
		limit := &l.limits[bits.TrailingZeros64(took)]
		limit.buckets.giveBack(limit.key(req, caller))
	}
}

func (l *Limit) matches(req route.Request, port int) bool {
	for _, m := range l.matchers {
		if m.Match(req, port) {
			return true
		}
	}
	return len(l.matchers) == 0
}

// key is the hash of what a request's bucket is known by.
func (l *Limit) key(req route.Request, caller string) uint64 {
	first := -1
	if l.header != "" {
		first = req.Find(l.header)
	}
	switch {
	case l.header == "" && !l.rule.Caller:
		return 0
	case l.header == "":
		return maphash.String(l.buckets.seed, caller)
	case !l.rule.Caller && first >= 0 && req.Next(first) < 0:
		return maphash.Bytes(l.buckets.seed, req.Value(first))
	default:
		return l.longKey(req, first, caller)
	}
}

// longKey is that of a key of several parts, and of one that is not there.
func (l *Limit) longKey(req route.Request, first int, caller string) uint64 {
	var h maphash.Hash
	h.SetSeed(l.buckets.seed)
	if l.rule.Caller {
		_, _ = h.WriteString(caller)
		_ = h.WriteByte(0)
	}
	if first < 0 {
		_ = h.WriteByte(0) // which no value of a header can hold
		return h.Sum64()
	}
	_, _ = h.Write(req.Value(first))
	for i := req.Next(first); i >= 0; i = req.Next(i) {
		_ = h.WriteByte(',')
		_, _ = h.Write(req.Value(i))
	}
	return h.Sum64()
}
