package http1

import (
	"bytes"
	"net/netip"
	"unsafe"
)

// readTarget reads h.target in one of its four forms (RFC 9112, 3.2).
func (h *Head) readTarget(lim *Limits) fault {
	target := h.Target()
	if !all(target, classTarget) {
		return targetFault(target)
	}
	switch {
	case h.Method == CONNECT:
		return h.readAuthorityForm(target)
	case target[0] == '/':
		h.Form = OriginForm
		return h.readPath(h.target, lim)
	case len(target) == 1 && target[0] == '*':
		if h.Method != OPTIONS {
			return faultTargetForm
		}
		h.Form, h.rawPath = AsteriskForm, h.target
		return ok
	default:
		return h.readAbsoluteForm(target, lim)
	}
}

func targetFault(target []byte) fault {
	if i := badByte(target); i >= 0 {
		return controlFault(target[i])
	}
	switch {
	case bytes.IndexByte(target, '\t') >= 0:
		return faultRequestLineWhitespace
	case bytes.IndexByte(target, '#') >= 0:
		return faultFragment
	default:
		return faultTargetInvalid
	}
}

// readAuthorityForm reads host:port, where the port must be given (RFC 9110, 9.3.6).
func (h *Head) readAuthorityForm(target []byte) fault {
	h.Form = AuthorityForm
	if _, port := SplitHostPort(target); port == 0 || !validAuthority(target) {
		return faultAuthorityInvalid
	}
	h.host = h.target
	return ok
}

// readAbsoluteForm reads http://authority[path][?query].
func (h *Head) readAbsoluteForm(target []byte, lim *Limits) fault {
	h.Form = AbsoluteForm
	scheme, rest, found := bytes.Cut(target, []byte("://"))
	switch {
	case !found || !all(scheme, classToken):
		return faultTargetForm
	case EqualFold(scheme, "https"):
		h.HTTPS = true
	case !EqualFold(scheme, "http"):
		return faultTargetScheme
	}
	n := bytes.IndexAny(rest, "/?")
	if n < 0 {
		n = len(rest)
	}
	if !validAuthority(rest[:n]) {
		return faultAuthorityInvalid
	}
	at := h.target.end - uint32(len(rest))
	h.host = span{at, at + uint32(n)}
	return h.readPath(span{h.host.end, h.target.end}, lim)
}

// readPath splits path and query, and normalises the path. An absent path is "/", or "*" in an OPTIONS for the whole server (RFC 9112, 3.2.4).
func (h *Head) readPath(s span, lim *Limits) fault {
	path := h.bytes(s)
	h.rawPath = s
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		at := s.off + uint32(i)
		h.rawPath, h.query, h.hasQuery = span{s.off, at}, span{at + 1, s.end}, true
		path = path[:i]
	}
	if len(path) == 0 {
		absent := byte('/')
		if h.Method == OPTIONS && !h.hasQuery {
			absent = '*'
		}
		h.pathBuf, h.pathChanged = append(h.pathBuf[:0], absent), true
		return ok
	}
	normal, changed, f := normalize(h.pathBuf, path, lim.Path)
	if changed {
		h.pathBuf = normal
	}
	h.pathChanged = changed
	return f
}

// judgeHost applies RFC 9112, 3.2: exactly one valid Host in HTTP/1.1, at most one in HTTP/1.0, and none that contradicts the target.
func (h *Head) judgeHost() fault {
	i := h.Index(Host)
	switch {
	case i < 0 && h.Version == HTTP10:
		return ok
	case i < 0:
		return faultHostMissing
	case h.twice.has(Host):
		return faultHostDuplicate
	case !validAuthority(h.Value(i)):
		return faultHostInvalid
	}
	if h.Form == AbsoluteForm || h.Form == AuthorityForm {
		return h.compareHost(h.Value(i))
	}
	f := &h.fields[i]
	h.host = span{f.ValOff, f.ValOff + f.ValLen}
	return ok
}

// compareHost compares Host with the authority of the target. With CONNECT, Host may leave the port out, as some clients do.
func (h *Head) compareHost(value []byte) fault {
	authority := h.Host()
	if EqualFold(value, authority) {
		return ok
	}
	if name, _ := SplitHostPort(authority); h.Form == AuthorityForm && EqualFold(value, name) {
		return ok
	}
	return faultAuthorityMismatch
}

// SplitHostPort splits host[:port], as Head.Host gives it; port is 0 when there is none. An IPv6 literal keeps its brackets.
func SplitHostPort(authority []byte) (host []byte, port uint16) {
	colon := bytes.LastIndexByte(authority, ':')
	if colon < 0 || bytes.IndexByte(authority[colon:], ']') >= 0 {
		return authority, 0
	}
	return authority[:colon], parsePort(authority[colon+1:])
}

// parsePort reads 1 to 65535 without leading zeros; 0 when it is anything else.
func parsePort(s []byte) uint16 {
	if len(s) == 0 || len(s) > 5 || s[0] == '0' {
		return 0
	}
	n := 0
	for _, c := range s {
		if c-'0' > 9 {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	if n > 65535 {
		return 0
	}
	return uint16(n)
}

// validAuthority judges host[:port]: letters, digits and - . _ ~, at least one of them, or an IPv6 literal in brackets, without a zone.
func validAuthority(s []byte) bool {
	host, port := SplitHostPort(s)
	if len(host) != len(s) && port == 0 || len(host) == 0 {
		return false
	}
	if host[0] != '[' {
		return all(host, classHost)
	}
	return validIPv6(host)
}

func validIPv6(literal []byte) bool {
	n := len(literal)
	if n < 4 || literal[n-1] != ']' || bytes.IndexByte(literal, '%') >= 0 {
		return false
	}
	// The string shares the bytes for the length of the call: an address without a zone keeps none of it.
	addr, err := netip.ParseAddr(unsafe.String(&literal[1], n-2))
	return err == nil && addr.Is6()
}
