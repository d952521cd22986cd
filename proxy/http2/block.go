package http2

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/proxy/http1"
)

// block is a header block as it is decoded: its pseudo-fields, and the others as lines of HTTP/1.1. What breaks RFC 9113, 8.2 and 8.3 makes it malformed. Decoding goes on all the same, because the
// compression has a memory; but once the result is of no use, nothing is made of the fields any more, so that small blocks that decode to large ones cost what they weigh.
type block struct {
	lim *http1.Limits
	dec *hpack.Decoder

	encoded, frames int  // that arrived
	selfish         bool // its priority makes it depend on itself

	malformed bool
	tooLarge  bool
	size      int // of the fields as lines of HTTP/1.1
	count     int

	pseudo                                  uint8 // those that came
	method, scheme, authority, path, status string
	protocol                                string // of an extended CONNECT
	regular                                 bool   // a field came that is none
	host, length                            string
	hosts, lengths                          int
	announces                               bool   // trailers
	lines                                   []byte // all others
	cookie                                  []byte
}

// Pseudo-fields.
const (
	hasMethod = 1 << iota
	hasScheme
	hasAuthority
	hasPath
	hasStatus
	hasProtocol
)

func (b *block) reset() {
	*b = block{lim: b.lim, dec: b.dec, lines: b.lines[:0], cookie: b.cookie[:0]}
	b.dec.SetEmitEnabled(true)
}

// maxIdle is the size of memory for one header block, in either direction, that a connection keeps for the next one.
const maxIdle = 4 << 10

// trim gives back what only a large block needed.
func (b *block) trim() {
	if cap(b.lines) > maxIdle {
		b.lines = nil
	}
	if cap(b.cookie) > maxIdle {
		b.cookie = nil
	}
}

// add decodes a fragment.
func (b *block) add(fragment []byte) error {
	b.encoded += len(fragment)
	b.frames++
	switch {
	case b.frames > maxBlockFrames:
		return calm(ReasonContinuation)
	case b.encoded > blockFactor*b.lim.HeaderBytes:
		return calm(ReasonHeaderFlood)
	}
	if _, err := b.dec.Write(fragment); err != nil {
		return &connectionError{http2.ErrCodeCompression, ReasonCompression, "a header block that does not decode"}
	}
	return nil
}

// emit takes one field.
func (b *block) emit(f hpack.HeaderField) {
	b.size += len(f.Name) + len(f.Value) + len(": \r\n")
	b.count++
	if b.size > b.lim.HeaderBytes || b.count > b.lim.Headers+5 { // pseudo-fields are no lines
		b.tooLarge = true
	}
	if b.tooLarge || b.malformed {
		b.dec.SetEmitEnabled(false)
		return
	}
	switch {
	case !validValue(f.Value):
		b.malformed = true
	case len(f.Name) > 0 && f.Name[0] == ':':
		b.malformed = !b.emitPseudo(f)
	default:
		b.regular = true
		b.malformed = !validName(f.Name) || !b.emitRegular(f)
	}
}

func (b *block) emitPseudo(f hpack.HeaderField) bool {
	var which uint8
	var to *string
	switch f.Name {
	case ":method":
		which, to = hasMethod, &b.method
	case ":scheme":
		which, to = hasScheme, &b.scheme
	case ":authority":
		which, to = hasAuthority, &b.authority
	case ":path":
		which, to = hasPath, &b.path
	case ":status":
		which, to = hasStatus, &b.status
	case ":protocol":
		which, to = hasProtocol, &b.protocol
	}
	if which == 0 || b.regular || b.pseudo&which != 0 {
		return false
	}
	b.pseudo |= which
	*to = f.Value
	return true
}

// emitRegular takes a field that is none, and reports whether it may stand here at all.
func (b *block) emitRegular(f hpack.HeaderField) bool {
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return false // RFC 9113, 8.2.2
	case "te":
		if f.Value != "trailers" {
			return false
		}
	case "host":
		b.host = f.Value
		b.hosts++
		return b.hosts == 1
	case "content-length":
		b.length = f.Value
		b.lengths++
		return b.lengths == 1
	case "cookie": // RFC 9113, 8.2.3
		if len(b.cookie) > 0 {
			b.cookie = append(b.cookie, "; "...)
		}
		b.cookie = append(b.cookie, f.Value...)
		return true
	case "trailer":
		b.announces = true
	}
	b.lines = appendLine(b.lines, f.Name, f.Value)
	return true
}

func appendLine(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// Classes of characters.
const (
	className    = 1 << iota // tchar of RFC 9110, 5.6.2, but no capital letter
	classMethod              // tchar
	classValue               // anything but controls; HTAB is none
	classVisible             // visible ASCII
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= classValue
		}
		if c > ' ' && c < 0x7f {
			t[c] |= classVisible
		}
	}
	const small = "0123456789abcdefghijklmnopqrstuvwxyz!#$%&'*+-.^_`|~"
	for _, c := range small {
		t[c] |= className | classMethod
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] |= classMethod
	}
	return t
}()

// all reports whether a text is not empty and all of a class.
func all(s string, of uint8) bool {
	for i := range len(s) {
		if class[s[i]]&of == 0 {
			return false
		}
	}
	return s != ""
}

// validName reports whether a name is a token in lower case (RFC 9113, 8.2.1).
func validName(name string) bool { return all(name, className) }

// validValue reports whether a value has no control character but HTAB, and no whitespace at its ends. RFC 9113, 8.2.1 only forbids NUL, CR and LF, but asks to judge by RFC 9110, 5.5, which forbids the
// others too, as http1 does.
func validValue(v string) bool {
	return v == "" || all(v, classValue) && !blank(v[0]) && !blank(v[len(v)-1])
}

func blank(c byte) bool { return c == ' ' || c == '\t' }
