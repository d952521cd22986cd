package gatewayapi

import (
	"slices"
	"strconv"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// rule is one rule of a route, compiled as far as it is the same everywhere.
type rule struct {
	index   int
	name    string // empty: none
	path    string
	matches []match
	fault   fault // why it is dropped
	refusal int   // the status of what cannot be carried out
	refused bool  // it has a filter that is not honoured, and must not do without it

	cors              *mesh.CORS
	request, response mesh.HeaderChange
	redirect          *redirect
	rewrite           *mesh.Rewrite
	mirrors           []mirror
	arms              []arm
	timeout           time.Duration
	retry             *mesh.Retry
}

// redirect is a redirection whose port may depend on where it happens.
type redirect struct {
	mesh.Redirect
	ownPort bool // of the listener, since neither a port nor a scheme was given
}

// mirror is a copy of the requests for a backend.
type mirror struct {
	reference
	share float64
}

// arm is one backend of a rule.
type arm struct {
	reference
	weight            uint32
	refused           bool // it has a filter that is not honoured
	request, response mesh.HeaderChange
}

// label is how the rule is named among those of its route: its name, or its place, which no edit of weights changes.
func (r *rule) label() string {
	if r.name != "" {
		return r.name
	}
	return strconv.Itoa(r.index)
}

// references are the rule's references to backends.
func (r *rule) references() []*reference {
	var out []*reference
	for i := range r.arms {
		out = append(out, &r.arms[i].reference)
	}
	for i := range r.mirrors {
		out = append(out, &r.mirrors[i].reference)
	}
	return out
}

// action is what becomes of the rule's requests at a port, of a Gateway or not; the result has neither a name nor matches.
func (r *rule) action(port int, gateway bool) mesh.Route {
	if r.refused {
		return mesh.Route{Direct: &mesh.DirectResponse{Status: r.refusal}}
	}
	out := mesh.Route{CORS: r.cors, Response: r.response}
	if r.redirect != nil {
		to := r.redirect.Redirect
		if r.redirect.ownPort {
			to.Port = port
		}
		out.Redirect = &to
		return out
	}
	var sum, reached uint64
	for _, a := range r.arms {
		d := a.destination(r.refusal, gateway)
		sum += uint64(d.Weight)
		if d.Refuse == 0 {
			reached += uint64(d.Weight)
		}
		out.Split = append(out.Split, d)
	}
	if reached == 0 { // there is no backend, all weights are 0, or all with a weight are refused
		out.Split, out.Direct = nil, &mesh.DirectResponse{Status: r.refusal}
		return out
	}
	out.Request, out.Rewrite, out.Timeout, out.Retry = r.request, r.rewrite, r.timeout, r.retry
	for _, m := range r.mirrors {
		if m.wrong(gateway) == (fault{}) {
			out.Mirrors = append(out.Mirrors, mesh.Mirror{Host: m.host, Port: m.port, Share: m.share})
		}
	}
	return out
}

// destination is the arm of a split that the backend is.
func (a *arm) destination(refusal int, gateway bool) mesh.Destination {
	if a.refused || a.wrong(gateway) != (fault{}) {
		return mesh.Destination{Weight: a.weight, Refuse: refusal}
	}
	return mesh.Destination{Host: a.host, Port: a.port, Weight: a.weight, Request: a.request, Response: a.response}
}

// ruleBuilder compiles one rule of a document.
type ruleBuilder struct {
	*object
	rule *rule
}

// finish says what a malformed rule comes to.
func (b *ruleBuilder) finish() *rule {
	switch r := b.rule; {
	case r.fault != (fault{}):
	case b.Has(r.path, hard...):
		for _, p := range b.Problems {
			if under(p.Path, r.path) && slices.Contains(hard, p.Code) {
				r.fault = fault{ReasonUnsupportedValue, p.Path + ": " + p.Message}
				break
			}
		}
	case b.Has(join(r.path, "filters"), CodeNotHonoured):
		r.refused = true
	}
	return b.rule
}

func (b *ruleBuilder) timeouts(path string, t *httpTimeouts) {
	if t == nil {
		return
	}
	if t.Request != nil { // 0s switches the timeout off
		b.rule.timeout = time.Duration(*t.Request)
	}
	if t.BackendRequest == nil || *t.BackendRequest == 0 {
		return
	}
	if b.rule.timeout != 0 && time.Duration(*t.BackendRequest) > b.rule.timeout {
		b.Problem(CodeInvalid, join(path, "backendRequest"), "", "the timeout of one attempt is longer than that of the whole request")
	}
	b.rule.retry = mesh.DefaultRetry()
	b.rule.retry.PerTryTimeout = time.Duration(*t.BackendRequest)
}

// retry compiles GEP-1731. What it leaves to implementations: two more attempts, and besides the codes any failure of a connection is retried.
func (b *ruleBuilder) retry(path string, r *httpRetry) {
	if b.rule.retry == nil {
		b.rule.retry = mesh.DefaultRetry()
	}
	if r == nil {
		return
	}
	out := b.rule.retry
	out.On = []mesh.RetryOn{mesh.OnConnectFailure, mesh.OnReset}
	if r.Attempts != nil {
		out.Attempts = int(*r.Attempts)
	}
	for i, code := range r.Codes {
		if code < 400 || code > 599 {
			b.Problem(CodeInvalid, index(join(path, "codes"), i), "", "%d is not a status from 400 to 599", code)
			continue
		}
		out.Statuses = append(out.Statuses, int(code))
	}
	if len(out.Statuses) > 0 {
		out.On = append(out.On, mesh.OnRetriableStatus)
	}
	if r.Backoff != nil {
		out.BackoffMin = time.Duration(*r.Backoff)
		out.BackoffBase = out.BackoffMin
	}
}
