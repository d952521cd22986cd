package istio

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// headerChange compiles a change of headers other than that of the host.
func (o *object) headerChange(path string, h *networking.Headers_HeaderOperations) mesh.HeaderChange {
	if h == nil {
		return mesh.HeaderChange{}
	}
	for _, set := range []map[string]string{h.GetSet(), h.GetAdd()} {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			if isHost(name) {
				o.Problem(CodeNotHonoured, path, "use rewrite.authority", "changing %s by headers is not honoured here", name)
			}
		}
	}
	return mesh.HeaderChange{Set: maps.Clone(h.GetSet()), Add: maps.Clone(h.GetAdd()), Remove: slices.Clone(h.GetRemove())}
}

func isHost(name string) bool {
	lower := strings.ToLower(name)
	return lower == "host" || lower == ":authority"
}

// requestChange is headerChange for the requests of a route, where setting the host is a rewrite of the authority, as in Istio.
func (o *object) requestChange(path string, h *networking.Headers_HeaderOperations) (mesh.HeaderChange, *mesh.Rewrite) {
	var rewrite *mesh.Rewrite
	set := maps.Clone(h.GetSet())
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if isHost(name) {
			rewrite = &mesh.Rewrite{Authority: set[name]}
			delete(set, name)
		}
	}
	change := o.headerChange(path, &networking.Headers_HeaderOperations{Add: h.GetAdd(), Remove: h.GetRemove()})
	if len(set) > 0 {
		change.Set = set
	}
	return change, rewrite
}

// redirect compiles a redirection at a place. Istio makes one for each port, and so can take the request's for that of the place.
func (o *object) redirect(path string, r *networking.HTTPRedirect, matches []mesh.Match, at place) *mesh.Redirect {
	code := int(cmp.Or(r.GetRedirectCode(), 301))
	if !slices.Contains([]int{301, 302, 303, 307, 308}, code) {
		o.Problem(CodeInvalid, join(path, "redirectCode"), "301, 302, 303, 307 or 308", "%d is not a redirect", code)
	}
	o.port(join(path, "port"), r.GetPort())
	out := &mesh.Redirect{Scheme: r.GetScheme(), Host: r.GetAuthority(), Port: int(r.GetPort()), Path: r.GetUri(), PathPrefix: r.GetPrefixRewrite(), Code: code}
	if derived, is := r.GetRedirectPort().(*networking.HTTPRedirect_DerivePort); is {
		if out.Port = at.port; derived.DerivePort == networking.HTTPRedirect_FROM_PROTOCOL_DEFAULT {
			out.Port = map[string]int{"http": 80, "https": 443}[cmp.Or(out.Scheme, at.scheme())]
		}
	}
	o.schemeOf(join(path, "scheme"), out.Scheme)
	for field, to := range map[string]string{"uri": out.Path, "prefixRewrite": out.PathPrefix} {
		if to != "" && to[0] != '/' {
			o.Problem(CodeInvalid, join(path, field), "such as /new", "%q is not a path", to)
		}
	}
	notPrefix := func(m mesh.Match) bool { return m.Path == nil || m.Path.Prefix == nil }
	switch {
	case out.PathPrefix == "":
	case out.Path != "":
		o.Problem(CodeInvalid, join(path, "prefixRewrite"), "remove one of them", "uri and prefixRewrite cannot both be set")
	case len(matches) == 0 || slices.ContainsFunc(matches, notPrefix):
		o.Problem(CodeInvalid, join(path, "prefixRewrite"), "match: [{uri: {prefix: ...}}]", "each match of the route must be of a prefix of the path")
	}
	return out
}

func (o *object) schemeOf(path, scheme string) {
	if !slices.Contains([]string{"", "http", "https"}, scheme) {
		o.Problem(CodeInvalid, path, "http or https", "%q is not a scheme", scheme)
	}
}

func (o *object) direct(path string, r *networking.HTTPDirectResponse) *mesh.DirectResponse {
	status := int(r.GetStatus())
	if status < 200 || status > 599 {
		o.Problem(CodeInvalid, join(path, "status"), "", "the status must be 200 to 599")
	}
	body := r.GetBody().GetBytes()
	if s := r.GetBody().GetString_(); s != "" {
		body = []byte(s)
	}
	return &mesh.DirectResponse{Status: status, Body: body}
}

// rewrite sets the rewrite of a route. A path is rewritten by replacing what matched, so a match without a path matches the prefix /, as in Istio; what an expression matches is all of the path.
func (o *object) rewrite(path string, rw *networking.HTTPRewrite, route *mesh.Route) {
	out := &mesh.Rewrite{Path: rw.GetUri(), Authority: rw.GetAuthority()}
	if route.Rewrite != nil && out.Authority == "" {
		out.Authority = route.Rewrite.Authority
	}
	route.Rewrite = out
	if regex := rw.GetUriRegexRewrite(); regex != nil {
		out.Regex = &mesh.RegexRewrite{Find: regex.GetMatch(), Replace: regex.GetRewrite()}
		_, _, err := out.Regex.Compile()
		switch at := join(path, "uriRegexRewrite"); {
		case out.Path != "":
			o.Problem(CodeInvalid, at, "remove one of them", "uri and uriRegexRewrite cannot both be set")
		case err != nil:
			o.Problem(CodeType, at, "RE2 syntax, and \\1 for what a group found", "%v", err)
		case regex.GetMatch() == "":
			o.Problem(CodeInvalid, at, "", "the field %q is missing", "match")
		}
	}
	if rw.GetUri() == "" {
		return
	}
	if rw.GetUri()[0] != '/' {
		o.Problem(CodeInvalid, join(path, "uri"), "such as /v2", "%q is not a path", rw.GetUri())
	}
	if len(route.Matches) == 0 {
		route.Matches = []mesh.Match{{}}
	}
	root := "/"
	for i, m := range route.Matches {
		if m.Path == nil {
			route.Matches[i].Path = &mesh.StringMatch{Prefix: &root}
		}
	}
}

// mirrors compiles both ways in which mirrors are written. One without a percentage gets a copy of every request; one with 0 gets none.
func (c *compiler) mirrors(o *object, path string, r *networking.HTTPRoute, port int) []mesh.Mirror {
	var out []mesh.Mirror
	add := func(at string, to *networking.Destination, percent float64, where string) {
		d := c.destination(o, at, to, port)
		if percent < 0 || percent > 100 {
			o.Problem(CodeInvalid, where, "", "a percentage is 0 to 100, not %v", percent)
		}
		if percent > 0 {
			out = append(out, mesh.Mirror{Host: d.Host, Subset: d.Subset, Port: d.Port, Share: percent / 100})
		}
	}
	//lint:ignore SA1019 users' documents still say mirrorPercent
	older := r.GetMirrorPercent()
	if m := r.GetMirror(); m != nil {
		percent, where := 100.0, path
		switch {
		case r.GetMirrorPercentage() != nil:
			percent, where = r.GetMirrorPercentage().GetValue(), join(path, "mirrorPercentage")
		case older != nil:
			percent, where = float64(older.GetValue()), join(path, "mirrorPercent")
		}
		add(join(path, "mirror"), m, percent, where)
		if len(r.GetMirrors()) > 0 {
			o.Problem(CodeInvalid, join(path, "mirrors"), "remove one of them", "mirror and mirrors cannot both be set")
		}
	} else if r.GetMirrorPercentage() != nil || older != nil {
		o.Problem(CodeInvalid, path, "", "a percentage of mirrored requests needs a mirror")
	}
	for i, m := range r.GetMirrors() {
		at, percent := index(join(path, "mirrors"), i), 100.0
		if m.GetDestination() == nil {
			if !o.Has(at) {
				o.Problem(CodeInvalid, at, "", "the field %q is missing", "destination")
			}
			continue
		}
		if m.GetPercentage() != nil {
			percent = m.GetPercentage().GetValue()
		}
		add(join(at, "destination"), m.GetDestination(), percent, join(at, "percentage"))
	}
	return out
}

func (o *object) cors(path string, p *networking.CorsPolicy) *mesh.CORS {
	if p == nil {
		return nil
	}
	out := &mesh.CORS{
		Methods: p.GetAllowMethods(), Headers: p.GetAllowHeaders(), Expose: p.GetExposeHeaders(), Credentials: p.GetAllowCredentials().GetValue(),
		AnswerAll: p.GetUnmatchedPreflights() == networking.CorsPolicy_IGNORE,
	}
	for i, m := range p.GetAllowOrigins() {
		if test := o.stringMatch(index(join(path, "allowOrigins"), i), m); test != nil {
			out.Origins = append(out.Origins, *test)
		}
	}
	//lint:ignore SA1019 users' documents still say allowOrigin; "*" is any, as in an exact test
	for _, origin := range p.GetAllowOrigin() {
		out.Origins = append(out.Origins, mesh.StringMatch{Exact: &origin})
	}
	if age := p.GetMaxAge(); age != nil {
		out.MaxAge = age.AsDuration()
	}
	return out
}

var retryConditions = []mesh.RetryOn{
	mesh.On5xx, mesh.OnGatewayError, mesh.OnReset, mesh.OnResetBefore, mesh.OnConnectFailure, mesh.OnRetriable4xx, mesh.OnRefusedStream, mesh.OnRetriableStatus,
	mesh.OnCancelled, mesh.OnDeadlineExceeded, mesh.OnInternal, mesh.OnResourceExhausted, mesh.OnUnavailable,
}

func (o *object) retry(path string, r *networking.HTTPRetry) *mesh.Retry {
	if r == nil {
		return mesh.DefaultRetry()
	}
	if r.GetAttempts() < 0 {
		o.Problem(CodeInvalid, join(path, "attempts"), "", "attempts is not negative")
	}
	if r.GetRetryRemoteLocalities().GetValue() {
		o.Problem(CodeNotHonoured, join(path, "retryRemoteLocalities"), "", "retries know no localities yet")
	}
	if r.GetAttempts() <= 0 {
		return nil
	}
	out := &mesh.Retry{Attempts: int(r.GetAttempts()), On: mesh.DefaultRetry().On}
	if previous := r.GetRetryIgnorePreviousHosts(); previous != nil {
		out.Same = !previous.GetValue()
	}
	if r.GetPerTryTimeout() != nil {
		out.PerTryTimeout = o.atLeast1ms(join(path, "perTryTimeout"), r.GetPerTryTimeout().AsDuration())
	}
	if r.GetBackoff() != nil {
		out.BackoffBase = o.atLeast1ms(join(path, "backoff"), r.GetBackoff().AsDuration())
	}
	if words := r.GetRetryOn(); strings.TrimSpace(words) != "" {
		out.On, out.Statuses = o.retryOn(join(path, "retryOn"), words)
	}
	return out
}

// retryOn reads a list of conditions and statuses.
func (o *object) retryOn(path, words string) (on []mesh.RetryOn, statuses []int) {
	for word := range strings.SplitSeq(words, ",") {
		word = strings.TrimSpace(word)
		status, err := strconv.Atoi(word)
		switch {
		case err == nil && status >= 100 && status <= 599:
			statuses = append(statuses, status)
		case slices.Contains(retryConditions, mesh.RetryOn(word)):
			on = append(on, mesh.RetryOn(word))
		default:
			o.Problem(CodeNotHonoured, path, fmt.Sprintf("known: %v and numbers of statuses", retryConditions), "the retry condition %q is not honoured yet", word)
		}
	}
	if len(statuses) > 0 && !slices.Contains(on, mesh.OnRetriableStatus) {
		on = append(on, mesh.OnRetriableStatus)
	}
	return on, statuses
}
