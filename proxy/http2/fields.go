package http2

import (
	"bytes"
	"strconv"

	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/proxy/http1"
)

// fields is a header block as it is decoded: the pseudo-fields, and the others as lines of HTTP/1.1. What breaks RFC 9113, 8.2 and 8.3 makes it malformed; decoding goes on all the same, because the
// compression has a memory.
type fields struct {
	lim       *http1.Limits
	malformed bool
	tooLarge  bool
	encoded   int // bytes that arrived for it
	frames    int
	size      int // as RFC 9113, 6.5.2 counts
	count     int

	method, scheme, authority, path, status string
	pseudo                                  uint8 // which of them came
	regular                                 bool  // a field that is none came
	host                                    string
	hosts                                   int
	length                                  string // Content-Length
	lengths                                 int
	announces                               bool // trailers
	lines                                   []byte
	cookie                                  []byte
}

const (
	hasMethod = 1 << iota
	hasScheme
	hasAuthority
	hasPath
	hasStatus
)

func (f *fields) reset() {
	*f = fields{lim: f.lim, lines: f.lines[:0], cookie: f.cookie[:0]}
}

// emit takes one field.
func (f *fields) emit(h hpack.HeaderField) {
	f.size += len(h.Name) + len(h.Value) + 32
	f.count++
	if f.tooLarge = f.tooLarge || f.size > f.lim.HeaderBytes+32*f.lim.Headers || f.count > f.lim.Headers+8; f.tooLarge || f.malformed {
		return
	}
	if !validValue(h.Value) {
		f.malformed = true
		return
	}
	if len(h.Name) > 0 && h.Name[0] == ':' {
		f.emitPseudo(h)
		return
	}
	f.regular = true
	if !validName(h.Name) {
		f.malformed = true
		return
	}
	switch h.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings":
		f.malformed = true // RFC 9113, 8.2.2
	case "te":
		f.malformed = h.Value != "trailers"
	case "host":
		f.host = h.Value
		f.hosts++
	case "content-length":
		f.length = h.Value
		f.lengths++
		f.malformed = f.lengths > 1
	case "cookie":
		if len(f.cookie) > 0 {
			f.cookie = append(f.cookie, "; "...)
		}
		f.cookie = append(f.cookie, h.Value...)
	default:
		f.announces = f.announces || h.Name == "trailer"
		f.lines = append(f.lines, h.Name...)
		f.lines = append(f.lines, ": "...)
		f.lines = append(f.lines, h.Value...)
		f.lines = append(f.lines, "\r\n"...)
	}
}

func (f *fields) emitPseudo(h hpack.HeaderField) {
	var which uint8
	var to *string
	switch h.Name {
	case ":method":
		which, to = hasMethod, &f.method
	case ":scheme":
		which, to = hasScheme, &f.scheme
	case ":authority":
		which, to = hasAuthority, &f.authority
	case ":path":
		which, to = hasPath, &f.path
	case ":status":
		which, to = hasStatus, &f.status
	}
	if which == 0 || f.regular || f.pseudo&which != 0 {
		f.malformed = true
		return
	}
	f.pseudo |= which
	*to = h.Value
}

// validName reports whether a name is a token in lower case.
func validName(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if !tokenByte[name[i]] || name[i] >= 'A' && name[i] <= 'Z' {
			return false
		}
	}
	return true
}

var tokenByte = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// validValue reports whether a value has no control character (HTAB excepted) and no whitespace at its ends (RFC 9113, 8.2.1; stricter, as http1 is).
func validValue(v string) bool {
	if v == "" {
		return true
	}
	if isBlank(v[0]) || isBlank(v[len(v)-1]) {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// visible reports whether a text is not empty and all visible ASCII.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// bodyKind is how a body goes on in HTTP/1.1.
type bodyKind uint8

const (
	noBody bodyKind = iota
	rawBody
	chunkedBody
	tunnelBody
)

// appendRequest appends the request as HTTP/1.1, and says how its body follows. It is not ok when the request is malformed.
func (f *fields) appendRequest(b []byte, ended bool) (out []byte, kind bodyKind, length int64, ok bool) {
	if f.malformed || f.pseudo&hasStatus != 0 || f.pseudo&hasMethod == 0 || !validMethod(f.method) {
		return b, 0, 0, false
	}
	connect := f.method == "CONNECT"
	switch {
	case connect && (f.pseudo != hasMethod|hasAuthority || !visible(f.authority)):
		return b, 0, 0, false
	case !connect && (f.pseudo|hasAuthority != hasMethod|hasScheme|hasAuthority|hasPath || !f.validTarget()):
		return b, 0, 0, false
	}
	host, ok := f.theHost()
	if !ok {
		return b, 0, 0, false
	}
	kind, length, ok = f.framing(ended)
	if !ok {
		return b, 0, 0, false
	}
	b = append(b, f.method...)
	b = append(b, ' ')
	if connect {
		b = append(b, f.authority...)
		kind = tunnelBody
	} else {
		b = append(b, f.path...)
	}
	b = append(b, " HTTP/1.1\r\nhost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	return f.appendRest(b, kind), kind, length, true
}

// validMethod reports whether a method is a token.
func validMethod(m string) bool {
	for i := range len(m) {
		if !tokenByte[m[i]] {
			return false
		}
	}
	return m != ""
}

// validTarget judges scheme and path (RFC 9113, 8.3.1). The rest of it is up to http1.
func (f *fields) validTarget() bool {
	if f.scheme != "http" && f.scheme != "https" || !visible(f.path) {
		return false
	}
	return f.path[0] == '/' || f.path == "*" && f.method == "OPTIONS"
}

// theHost is what Host has to be: the authority, with which a Host must agree.
func (f *fields) theHost() (host string, ok bool) {
	switch {
	case f.hosts > 1, f.pseudo&hasAuthority != 0 && (f.authority == "" || f.hosts == 1 && f.host != f.authority):
		return "", false
	case f.pseudo&hasAuthority != 0:
		return f.authority, true
	default:
		return f.host, f.hosts == 1
	}
}

// framing says how the body goes on, and how long it has to be (below 0: nobody said). A body that announces trailers is chunked, whatever its length, so that they find a place.
func (f *fields) framing(ended bool) (kind bodyKind, length int64, ok bool) {
	length = -1
	if f.lengths > 0 {
		if length, ok = parseLength(f.length); !ok {
			return 0, 0, false
		}
	}
	switch {
	case ended:
		return noBody, 0, length <= 0
	case length < 0:
		return chunkedBody, length, true
	case f.announces:
		f.lengths = 0
		return chunkedBody, length, true
	default:
		return rawBody, length, true
	}
}

// parseLength reads a canonical decimal.
func parseLength(s string) (n int64, ok bool) {
	if !digits(s) || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// appendRest appends the fields, the framing and the empty line.
func (f *fields) appendRest(b []byte, kind bodyKind) []byte {
	b = append(b, f.lines...)
	if len(f.cookie) > 0 {
		b = append(b, "cookie: "...)
		b = append(b, f.cookie...)
		b = append(b, "\r\n"...)
	}
	switch {
	case f.lengths > 0:
		b = append(b, "content-length: "...)
		b = append(b, f.length...)
		b = append(b, "\r\n"...)
	case kind == chunkedBody:
		b = append(b, "transfer-encoding: chunked\r\n"...)
	}
	return append(b, "\r\n"...)
}

// appendResponse appends the answer to a request as HTTP/1.1. An interim one has no body; the final one's follows as kind says. It is not ok when the answer is malformed.
func (f *fields) appendResponse(b []byte, ended, head bool) (out []byte, kind bodyKind, length int64, interim, ok bool) {
	if f.malformed || f.pseudo != hasStatus || len(f.status) != 3 {
		return b, 0, 0, false, false
	}
	status, err := strconv.Atoi(f.status)
	if err != nil || status < 100 || status > 599 || status == 101 {
		return b, 0, 0, false, false
	}
	interim = status < 200
	if interim && ended {
		return b, 0, 0, false, false
	}
	bodyless := interim || status == 204 || status == 304 || head
	if bodyless && !interim {
		kind, length, ok = noBody, 0, f.lengths == 0 || digits(f.length)
	} else if !interim {
		kind, length, ok = f.framing(ended)
	} else {
		ok = f.lengths == 0
	}
	if !ok {
		return b, 0, 0, false, false
	}
	b = append(b, "HTTP/1.1 "...)
	b = append(b, f.status...)
	b = append(b, ' ')
	b = append(b, http1.StatusText(status)...)
	b = append(b, "\r\n"...)
	if !interim && !bodyless && kind == noBody && f.lengths == 0 {
		b = append(b, "content-length: 0\r\n"...)
	}
	if status == 204 {
		f.lengths = 0
	}
	return f.appendRest(b, kind), kind, length, interim, true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// appendTrailers appends trailers as those of a chunked body, without those that HTTP/1.1 would refuse. It is not ok when they are malformed.
func (f *fields) appendTrailers(b []byte) (out []byte, ok bool) {
	if f.malformed || f.pseudo != 0 || f.tooLarge {
		return b, false
	}
	for rest := f.lines; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		line := rest[:end]
		rest = rest[end:]
		if http1.TrailerAllowed(line[:bytes.IndexByte(line, ':')]) {
			b = append(b, line...)
		}
	}
	return b, true
}
