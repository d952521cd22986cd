package route

import (
	"bytes"
	"strconv"

	"meshtest.dev/meshtest/mesh"
)

// Hit is the outcome of a lookup: the first rule that matched, and by which of its matches. The zero value says that no rule did.
type Hit struct {
	Rule  *Rule
	Match *mesh.Match // nil when the rule has no matches, and takes every request
}

// AppendPath appends the path with which the request goes on, without the query: the given normalised path as the rule's rewrite changes it.
//
// A rewrite of what matched replaces the prefix that did, which is "/" when the match does not test the path, or the whole path on an exact or regex match. It is a replacement
// of text, as in Istio, but two slashes never meet: "/reviews" to "/" makes "/reviews/1" to "/1", where Istio makes "//1". A prefix by elements is replaced by elements: "/reviews" to "/v2/" makes
// "/reviews/1" to "/v2/1".
func (h Hit) AppendPath(dst, path []byte) []byte {
	switch w := h.Rule.Route.Rewrite; {
	case w == nil:
		return append(dst, path...)
	case w.FullPath != "":
		return append(dst, w.FullPath...)
	case h.Rule.rewriting != nil:
		return h.Rule.rewriting.append(dst, path)
	case w.Path != "":
		return h.appendReplaced(dst, path, w.Path)
	default:
		return append(dst, path...)
	}
}

// appendReplaced appends the path with what matched replaced.
func (h Hit) appendReplaced(dst, path []byte, by string) []byte {
	switch m := h.Match; {
	case m == nil || m.Path == nil:
		return appendBehind(dst, by, path[min(1, len(path)):])
	case m.Path.PathPrefix != nil:
		return appendElements(dst, path, *m.Path.PathPrefix, by)
	case m.Path.Prefix != nil:
		return appendBehind(dst, by, path[min(len(*m.Path.Prefix), len(path)):])
	default:
		return append(dst, by...)
	}
}

// appendBehind appends a beginning and the rest of a path.
func appendBehind(dst []byte, begin string, rest []byte) []byte {
	if len(rest) > 0 && rest[0] == '/' && begin[len(begin)-1] == '/' {
		rest = rest[1:]
	}
	return append(append(dst, begin...), rest...)
}

// appendElements appends a path whose first elements are replaced by others.
func appendElements(dst, path []byte, prefix, by string) []byte {
	before := len(dst)
	if by[len(by)-1] == '/' {
		by = by[:len(by)-1]
	}
	if prefix == "/" {
		prefix = ""
	}
	dst = append(append(dst, by...), path[min(len(prefix), len(path)):]...)
	if len(dst) == before {
		dst = append(dst, '/')
	}
	return dst
}

// AppendLocation appends the URL to which the rule redirects a request that came by the given scheme, http or https: what the route does not say is the request's own, the query included.
func (h Hit) AppendLocation(dst []byte, scheme string, req Request) []byte {
	r := h.Rule.Route.Redirect
	to := scheme
	if r.Scheme != "" {
		to = r.Scheme
	}
	dst = append(append(dst, to...), "://"...)
	dst = appendAuthority(dst, req.Host(), scheme, to, r)
	begin := len(dst)
	switch {
	case r.Path != "":
		dst = append(dst, r.Path...)
	case r.PathPrefix != "":
		dst = h.appendReplaced(dst, req.Path(), r.PathPrefix)
	default:
		dst = append(dst, req.Path()...)
	}
	if query := req.Query(); len(query) > 0 && bytes.IndexByte(dst[begin:], '?') < 0 {
		dst = append(append(dst, '?'), query...)
	}
	return dst
}

// appendAuthority appends the host and port of a redirection between schemes.
func appendAuthority(dst, asked []byte, from, to string, r *mesh.Redirect) []byte {
	host, port := cutPort(asked)
	if r.Host != "" {
		dst, port = append(dst, r.Host...), nil
	} else {
		dst = append(dst, host...)
	}
	switch {
	case r.Port != 0 && r.Port != portOf(to):
		return strconv.AppendInt(append(dst, ':'), int64(r.Port), 10)
	case r.Port == 0 && len(port) > 0 && (from == to || number(port) != portOf(from)):
		return append(append(dst, ':'), port...)
	default:
		return dst
	}
}

// portOf is the port that a scheme has by itself.
func portOf(scheme string) int {
	if scheme == "https" {
		return 443
	}
	return 80
}

// cutPort cuts an authority into its host, with brackets, and its port.
func cutPort(authority []byte) (host, port []byte) {
	if i := bytes.LastIndexByte(authority, ':'); i >= 0 && bytes.IndexByte(authority[i:], ']') < 0 {
		return authority[:i], authority[i+1:]
	}
	return authority, nil
}
