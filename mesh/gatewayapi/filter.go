package gatewayapi

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/mesh"
)

func httpFilters(filters []grpcFilter) []httpFilter {
	var out []httpFilter
	for _, f := range filters {
		out = append(out, f.http())
	}
	return out
}

// filters compiles the filters of a rule.
func (b *ruleBuilder) filters(path string, filters []httpFilter) {
	seen := map[string]int{}
	for i, f := range filters {
		at := index(path, i)
		if !b.filter(at, f, seen, i) {
			continue
		}
		r := b.rule
		switch f.Type {
		case "RequestHeaderModifier":
			r.request = b.headerChange(join(at, "requestHeaderModifier"), f.RequestHeader)
		case "ResponseHeaderModifier":
			r.response = b.headerChange(join(at, "responseHeaderModifier"), f.ResponseHeader)
		case "RequestMirror":
			b.mirror(join(at, "requestMirror"), f.Mirror)
		case "RequestRedirect":
			b.redirect(join(at, "requestRedirect"), f.Redirect)
		case "URLRewrite":
			b.rewrite(join(at, "urlRewrite"), f.Rewrite)
		case "CORS":
			b.cors(join(at, "cors"), f.CORS)
		}
	}
	if b.rule.redirect != nil && b.rule.rewrite != nil {
		b.Problem(CodeInvalid, path, "remove one of them", "RequestRedirect and URLRewrite cannot both be there")
		b.rule.fault = fault{ReasonIncompatibleFilters, "RequestRedirect and URLRewrite cannot both be there"}
	}
}

// filter checks the outside of a filter, and reports whether its inside can be read.
func (b *ruleBuilder) filter(path string, f httpFilter, seen map[string]int, i int) bool {
	members := map[string]bool{
		"RequestHeaderModifier": f.RequestHeader != nil, "ResponseHeaderModifier": f.ResponseHeader != nil, "RequestMirror": f.Mirror != nil,
		"RequestRedirect": f.Redirect != nil, "URLRewrite": f.Rewrite != nil, "CORS": f.CORS != nil,
	}
	there, known := members[f.Type]
	first, repeated := seen[f.Type]
	seen[f.Type] = i
	switch {
	case f.Type == "": // the decoder has said so
		return false
	case !known:
		if !b.Has(path, CodeNotHonoured) {
			b.Problem(CodeNotHonoured, join(path, "type"), "its requests are answered with an error, because they must not do without it", "the filter %s is not honoured yet", f.Type)
		}
		return false
	case !there && !b.Has(path):
		b.Problem(CodeInvalid, path, "", "the field %q is missing", memberOf(f.Type))
	case repeated && f.Type != "RequestMirror":
		b.Problem(CodeInvalid, path, "put them into one", "there is another filter %s (%d)", f.Type, first)
	}
	for _, kind := range slices.Sorted(maps.Keys(members)) {
		if members[kind] && kind != f.Type {
			b.Problem(CodeInvalid, join(path, memberOf(kind)), "", "%s is not for a filter of the type %s", memberOf(kind), f.Type)
		}
	}
	return there && !repeated || there && f.Type == "RequestMirror"
}

// memberOf is the field of a filter that goes with a type.
func memberOf(kind string) string {
	switch kind {
	case "CORS":
		return "cors"
	case "URLRewrite":
		return "urlRewrite"
	default:
		return strings.ToLower(kind[:1]) + kind[1:]
	}
}

// headerChange compiles a change of headers. Each name may be there once.
func (b *ruleBuilder) headerChange(path string, f *headerFilter) mesh.HeaderChange {
	var out mesh.HeaderChange
	seen := map[string]bool{}
	name := func(at, name string) {
		lower := strings.ToLower(name)
		switch {
		case b.Has(at):
		case !tokenPattern.MatchString(name):
			b.Problem(CodeInvalid, at, "", "%q is not the name of a header", name)
		case lower == "host":
			b.Problem(CodeNotHonoured, at, "urlRewrite.hostname", "changing %s by a header is not honoured", name)
		case seen[lower]:
			b.Problem(CodeInvalid, at, "one change for each", "%s is changed already", name)
		}
		seen[lower] = true
	}
	values := func(at string, list []headerValue) map[string]string {
		var out map[string]string
		for i, h := range list {
			name(join(index(at, i), "name"), h.Name)
			if !b.Has(index(at, i)) && (!valuePattern.MatchString(h.Value) || len(h.Value) > 4096) {
				b.Problem(CodeInvalid, join(index(at, i), "value"), "", "%q is not the value of a header", h.Value)
			}
			if out == nil {
				out = map[string]string{}
			}
			out[h.Name] = h.Value
		}
		return out
	}
	out.Set = values(join(path, "set"), f.Set)
	out.Add = values(join(path, "add"), f.Add)
	for i, h := range f.Remove {
		name(index(join(path, "remove"), i), h)
		out.Remove = append(out.Remove, h)
	}
	return out
}

func (b *ruleBuilder) mirror(path string, f *mirrorFilter) {
	share := 1.0
	switch {
	case f.Percent != nil && f.Fraction != nil:
		b.Problem(CodeInvalid, path, "remove one of them", "percent and fraction cannot both be set")
	case f.Percent != nil:
		share = float64(*f.Percent) / 100
	case f.Fraction != nil && f.Fraction.Denominator < 1: // the decoder has said so
	case f.Fraction != nil:
		if f.Fraction.Numerator > f.Fraction.Denominator {
			b.Problem(CodeInvalid, join(path, "fraction"), "", "the numerator is larger than the denominator")
		}
		share = float64(f.Fraction.Numerator) / float64(f.Fraction.Denominator)
	}
	b.rule.mirrors = append(b.rule.mirrors, mirror{reference{ref: f.Backend, path: join(path, "backendRef")}, share})
}

func (b *ruleBuilder) redirect(path string, f *redirectFilter) {
	out := &redirect{ownPort: f.Port == 0 && f.Scheme == ""}
	out.Redirect = mesh.Redirect{Scheme: f.Scheme, Host: b.hostname(join(path, "hostname"), f.Hostname), Port: int(f.Port), Code: int(f.Status)}
	if out.Port == 0 { // that of the scheme; without one it is that of the listener
		out.Port = map[string]int{"http": 80, "https": 443}[f.Scheme]
	}
	out.Path, out.PathPrefix = b.newPath(join(path, "path"), f.Path)
	b.rule.redirect = out
}

func (b *ruleBuilder) rewrite(path string, f *rewriteFilter) {
	out := &mesh.Rewrite{Authority: b.hostname(join(path, "hostname"), f.Hostname)}
	out.FullPath, out.Path = b.newPath(join(path, "path"), f.Path)
	b.rule.rewrite = out
}

// newPath is what a path is replaced by, as a whole or in its prefix; an empty replacement is "/".
func (b *ruleBuilder) newPath(path string, m *pathModifier) (full, prefix string) {
	value := func(field string, own, other *string) string {
		at := join(path, field)
		switch {
		case b.Has(path):
			return ""
		case own == nil || other != nil:
			b.Problem(CodeInvalid, path, "", "the type %s needs %s, and nothing else", m.Type, field)
			return ""
		case *own == "":
			return "/"
		case !strings.HasPrefix(*own, "/") || !pathPattern.MatchString(*own) || len(*own) > 1024:
			b.Problem(CodeInvalid, at, "such as /new", "%q is not a path", *own)
		}
		return *own
	}
	switch {
	case m == nil:
		return "", ""
	case m.Type == "ReplaceFullPath":
		return value("replaceFullPath", m.Full, m.Prefix), ""
	default:
		return "", value("replacePrefixMatch", m.Prefix, m.Full)
	}
}

// hostname is a host that a request or redirection gets; empty: none.
func (b *ruleBuilder) hostname(path string, host *string) string {
	if host == nil {
		return ""
	}
	if !validHost(*host) || strings.HasPrefix(*host, "*") {
		b.Problem(CodeInvalid, path, "such as books.example.com", "%q is not a host", *host)
	}
	return *host
}

var hostPattern = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// validHost reports whether a host is a DNS name in lower case, whose first label may be *, and not an address.
func validHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil && len(host) <= 253 && hostPattern.MatchString(host)
}

var originPattern = regexp.MustCompile(`^(https?)://((?:\*\.)?(?:[a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(?::([0-9]{1,5}))?$`)

func (b *ruleBuilder) cors(path string, f *corsFilter) {
	out := &mesh.CORS{AnswerAll: true, Methods: f.Methods, Headers: f.Headers, Expose: f.Expose, Credentials: f.Credentials, MaxAge: time.Duration(f.MaxAge) * time.Second}
	for i, origin := range f.Origins {
		if at := index(join(path, "allowOrigins"), i); !b.Has(at) {
			out.Origins = append(out.Origins, b.origin(at, origin))
		}
	}
	b.alone(join(path, "allowOrigins"), f.Origins)
	b.alone(join(path, "allowMethods"), f.Methods)
	b.alone(join(path, "allowHeaders"), f.Headers)
	b.tokens(join(path, "allowHeaders"), f.Headers)
	b.tokens(join(path, "exposeHeaders"), f.Expose)
	b.rule.cors = out
}

// alone reports a * beside other words.
func (b *ruleBuilder) alone(path string, words []string) {
	if len(words) > 1 && slices.Contains(words, "*") {
		b.Problem(CodeInvalid, path, "", "* stands alone")
	}
}

// tokens reports what no header is called; * is a token, too.
func (b *ruleBuilder) tokens(path string, names []string) {
	for i, name := range names {
		if at := index(path, i); !b.Has(at) && !tokenPattern.MatchString(name) {
			b.Problem(CodeInvalid, at, "", "%q is not the name of a header", name)
		}
	}
}

// origin is the test of an Origin header. Browsers write it without the port that its scheme has by itself.
func (b *ruleBuilder) origin(path, origin string) mesh.StringMatch {
	if origin == "*" {
		return mesh.StringMatch{Prefix: new(string)}
	}
	parts := originPattern.FindStringSubmatch(origin)
	if parts == nil {
		b.Problem(CodeInvalid, path, "* or https://*.example.com", "%q is not an origin", origin)
		return mesh.StringMatch{}
	}
	scheme, host, port := parts[1], strings.ToLower(parts[2]), parts[3]
	if port != "" && !(scheme == "http" && port == "80") && !(scheme == "https" && port == "443") {
		port = ":" + port
	} else {
		port = ""
	}
	if suffix, wild := strings.CutPrefix(host, "*"); wild {
		text := scheme + "://[^/:]+" + regexp.QuoteMeta(suffix) + port
		return mesh.StringMatch{Regex: &text}
	}
	exact := scheme + "://" + host + port
	return mesh.StringMatch{Exact: &exact}
}
