package http2

import (
	"bytes"
	"strconv"

	"meshtest.dev/meshtest/proxy/http1"
)

// message is what a header block says of the message that it begins, beside its text.
type message struct {
	kind bodyKind
	left int64 // payload bytes that must come, by Content-Length; below 0: nobody said
}

// appendRequest appends the request as HTTP/1.1, and tells how its body follows. An extended CONNECT is ok only where upgrades are. It is not ok when the request is malformed.
func (b *block) appendRequest(dst []byte, ended, upgrades bool) (out []byte, m message, ok bool) {
	if b.malformed || b.pseudo&hasStatus != 0 || !all(b.method, classMethod) {
		return dst, m, false
	}
	connect := b.method == "CONNECT"
	switch {
	case b.pseudo&hasProtocol != 0:
		return b.appendWebSocket(dst, ended, upgrades)
	case connect:
		ok = b.pseudo == hasMethod|hasAuthority // RFC 9113, 8.5
	default:
		ok = b.pseudo|hasAuthority == hasMethod|hasScheme|hasAuthority|hasPath && b.validTarget()
	}
	host, agreed := b.theHost()
	if !ok || !agreed {
		return dst, m, false
	}
	target := b.path
	if connect {
		target = b.authority
		m = message{kind: tunnelBody, left: -1}
	} else if m, ok = b.framing(ended); !ok {
		return dst, m, false
	}
	dst = appendRequestLine(dst, b.method, target)
	dst = appendLine(dst, "host", host)
	dst = b.appendFields(dst)
	dst = b.appendFraming(dst, m)
	if m.kind == noBody && b.lengths == 0 && expectsContent(b.method) {
		dst = appendLine(dst, "content-length", "0") // RFC 9110, 8.6
	}
	return append(dst, "\r\n"...), m, true
}

// appendFraming appends the line that says how long the body is, where one says it.
func (b *block) appendFraming(dst []byte, m message) []byte {
	switch {
	case b.lengths > 0:
		return appendLine(dst, "content-length", b.length)
	case m.kind == chunkedBody:
		return appendLine(dst, "transfer-encoding", "chunked")
	default:
		return dst
	}
}

func appendRequestLine(dst []byte, method, target string) []byte {
	dst = append(dst, method...)
	dst = append(dst, ' ')
	dst = append(dst, target...)
	return append(dst, " HTTP/1.1\r\n"...)
}

// expectsContent reports whether a request with that method is expected to have content, so that none is to be announced.
func expectsContent(method string) bool {
	return method == "POST" || method == "PUT" || method == "PATCH"
}

// appendWebSocket appends an extended CONNECT (RFC 8441) as the GET with Upgrade that it stands for.
func (b *block) appendWebSocket(dst []byte, ended, upgrades bool) (out []byte, m message, ok bool) {
	host, agreed := b.theHost()
	switch {
	case b.method != "CONNECT", b.pseudo != hasMethod|hasScheme|hasAuthority|hasPath|hasProtocol, !b.validTarget(), !agreed:
		return dst, m, false
	case !upgrades, b.protocol != "websocket", b.lengths > 0, ended:
		return dst, m, false // not offered, or nothing that is an upgrade
	}
	dst = appendRequestLine(dst, "GET", b.path)
	dst = appendLine(dst, "host", host)
	dst = b.appendFields(dst)
	dst = append(dst, "connection: Upgrade\r\nupgrade: websocket\r\n"...)
	dst = appendLine(dst, webSocketKey, newKey())
	return append(dst, "\r\n"...), message{kind: tunnelBody, left: -1}, true
}

// appendFields appends the fields that need no judgement.
func (b *block) appendFields(dst []byte) []byte {
	dst = append(dst, b.lines...)
	if len(b.cookie) > 0 {
		dst = append(dst, "cookie: "...)
		dst = append(dst, b.cookie...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// validTarget judges scheme and path (RFC 9113, 8.3.1). What else there is to say about a path is up to http1.
func (b *block) validTarget() bool {
	if b.scheme != "http" && b.scheme != "https" || !all(b.path, classVisible) {
		return false
	}
	return b.path[0] == '/' || b.path == "*" && b.method == "OPTIONS"
}

// theHost is what Host has to be: the authority, with which a Host must agree (RFC 9113, 8.3.1).
func (b *block) theHost() (host string, ok bool) {
	switch {
	case b.pseudo&hasAuthority == 0:
		return b.host, all(b.host, classVisible)
	case b.hosts == 1 && !http1.EqualFold(b.host, b.authority):
		return "", false
	default:
		return b.authority, all(b.authority, classVisible)
	}
}

// framing says how the body goes on. One that announces trailers is chunked, whatever its length, so that they find a place.
func (b *block) framing(ended bool) (m message, ok bool) {
	m.left = -1
	if b.lengths > 0 {
		if m.left, ok = parseLength(b.length); !ok {
			return m, false
		}
	}
	switch {
	case ended:
		return message{left: -1}, m.left <= 0
	case m.left < 0:
		m.kind = chunkedBody
	case m.left == 0:
	case b.announces:
		b.lengths, m.kind = 0, chunkedBody
	default:
		m.kind = rawBody
	}
	return m, true
}

// parseLength reads a canonical decimal below 2^63.
func parseLength(s string) (n int64, ok bool) {
	if !digits(s) || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// appendResponse appends the answer to a request with that method as HTTP/1.1. An interim one (status below 200) has no body; of the final one it tells how the body follows. It is not ok when the answer is malformed.
func (b *block) appendResponse(dst []byte, ended bool, st *Stream) (out []byte, status int, m message, ok bool) {
	if b.malformed || b.pseudo != hasStatus || len(b.status) != 3 || !digits(b.status) {
		return dst, 0, m, false
	}
	status, _ = strconv.Atoi(b.status)
	m.left = -1
	switch {
	case status < 100 || status > 599 || status == 101: // RFC 9113, 8.6: there is no 101
		return dst, 0, m, false
	case status < 200:
		if ended || b.lengths > 0 {
			return dst, 0, m, false
		}
	case st.upgrade && status < 300:
		return b.appendUpgraded(dst, st.acceptance), 101, message{kind: tunnelBody, left: -1}, true
	case st.method == http1.CONNECT && status < 300:
		b.lengths, m.kind = 0, tunnelBody // RFC 9110, 9.3.6
	case status == 204, status == 304, st.method == http1.HEAD:
		if b.lengths > 0 {
			if _, ok = parseLength(b.length); !ok {
				return dst, 0, m, false
			}
		}
		if status == 204 {
			b.lengths = 0
		}
	default:
		if m, ok = b.framing(ended); !ok {
			return dst, 0, m, false
		}
		if m.kind == noBody {
			b.length, b.lengths = "0", 1
		}
	}
	dst = appendStatusLine(dst, status)
	dst = b.appendFields(dst)
	dst = b.appendFraming(dst, m)
	return append(dst, "\r\n"...), status, m, true
}

func appendStatusLine(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http1.StatusText(status)...)
	return append(dst, "\r\n"...)
}

// appendUpgraded appends a 2xx to an extended CONNECT as the 101 that it stands for.
func (b *block) appendUpgraded(dst []byte, acceptance string) []byte {
	dst = appendStatusLine(dst, 101)
	dst = b.appendFields(dst)
	dst = appendLine(dst, webSocketAccept, acceptance)
	return append(dst, "connection: Upgrade\r\nupgrade: websocket\r\n\r\n"...)
}

// validTrailers reports whether the block may stand behind a body.
func (b *block) validTrailers() bool { return !b.malformed && !b.tooLarge && b.pseudo == 0 }

// appendTrailers appends the fields as trailers of a chunked body, without those that http1 would refuse there: known ones, which RFC 9110, 6.5.1 forbids or the mesh judges before the body ends, and those
// that become known ones when somebody reads underscores as dashes.
func (b *block) appendTrailers(dst []byte) []byte {
	for rest := b.lines; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		line := rest[:end]
		rest = rest[end:]
		name := line[:bytes.IndexByte(line, ':')]
		if http1.TrailerAllowed(name) && (bytes.IndexByte(name, '_') < 0 || http1.TrailerAllowed(bytes.ReplaceAll(name, []byte("_"), []byte("-")))) {
			dst = append(dst, line...)
		}
	}
	return dst
}
