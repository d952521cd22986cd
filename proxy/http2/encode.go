package http2

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"hash/maphash"
	"strconv"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/proxy/http1"
)

// encoder compresses header blocks. A field goes into the dynamic table when it comes for the second time; one that is different in every message would only push out others. Fields that are secrets never
// do: who shares the connection could guess them by the size of blocks (RFC 7541, 7.1).
type encoder struct {
	enc  *hpack.Encoder
	buf  bytes.Buffer
	name []byte
	path []byte

	seed  maphash.Seed
	once  [256]uint64 // hashes of fields that came once, by their low bits
	often [128]field  // fields that came more often
}

// field is a field whose strings live for as long as the dynamic table may need them.
type field struct {
	hash        uint64
	name, value string
}

// maxIndexed is the length of values that are worth a place in a table of 4 KiB.
const maxIndexed = 256

func (e *encoder) init() {
	e.seed = maphash.MakeSeed()
	e.enc = hpack.NewEncoder(&e.buf)
}

// resize obeys the peer's SETTINGS_HEADER_TABLE_SIZE, as far as we use one.
func (e *encoder) resize(n uint32) { e.enc.SetMaxDynamicTableSize(min(n, tableSize)) }

// block is what was encoded since it began.
func (e *encoder) block() []byte { return e.buf.Bytes() }

// appendTo appends the block as frames, and keeps nothing that only a large one needed.
func (e *encoder) appendTo(b []byte, id uint32, last bool, maxFrame int) []byte {
	b = appendHeaders(b, id, e.block(), last, maxFrame)
	if e.buf.Cap() > maxIdle {
		e.buf = bytes.Buffer{}
	}
	if cap(e.name) > maxIdle {
		e.name = nil
	}
	if cap(e.path) > maxIdle {
		e.path = nil
	}
	return b
}

// static adds a field of two strings that live for ever.
func (e *encoder) static(name, value string) { e.write(name, value, false) }

func (e *encoder) write(name, value string, sensitive bool) {
	_ = e.enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: sensitive}) // a buffer takes everything
}

// add adds a field. Its bytes need not live for longer than the call. What is called sensitive is only not remembered.
func (e *encoder) add(name string, value []byte) {
	if len(value) > maxIndexed || secret(name) {
		e.write(name, text(value), true)
		return
	}
	h := maphash.String(e.seed, name)*31 + maphash.Bytes(e.seed, value)
	f := &e.often[h%uint64(len(e.often))]
	once := &e.once[h%uint64(len(e.once))]
	switch {
	case f.hash == h && f.name == name && f.value == text(value):
	case *once != h:
		*once = h
		e.write(name, text(value), true)
		return
	default:
		*f = field{h, string(append([]byte(nil), name...)), string(value)}
	}
	e.write(f.name, f.value, false)
}

func secret(name string) bool {
	return name == "authorization" || name == "cookie" || name == "set-cookie" || name == "proxy-authorization"
}

// fields adds the fields of a head that go on: all but those of the connection (RFC 9113, 8.2.2).
func (e *encoder) fields(h *http1.Head, upgrade bool) {
	named := h.Has(http1.Connection) && namesFields(h)
	for i := range h.Len() {
		id := h.Field(i).ID
		switch id {
		case http1.Connection, http1.KeepAlive, http1.ProxyConnection, http1.TransferEncoding, http1.Upgrade, http1.HTTP2Settings, http1.TE:
		case http1.Host:
		case http1.Unknown:
			name := e.lower(h.Name(i))
			if named && isNamed(h, h.Name(i)) || upgrade && (name == webSocketKey || name == webSocketAccept) { // RFC 8441, 5: TLS and HTTP/2 do what they are for
				continue
			}
			e.add(name, h.Value(i))
		default:
			if name := id.String(); len(name) == len(h.Name(i)) && name[len(name)-1] != '*' {
				e.add(name, h.Value(i))
			} else {
				e.add(e.lower(h.Name(i)), h.Value(i))
			}
		}
	}
}

// namesFields reports whether Connection says more than what becomes of the connection.
func namesFields(h *http1.Head) bool {
	for i := h.Index(http1.Connection); i >= 0; i = h.Next(i) {
		if v := text(h.Value(i)); !http1.EqualFold(v, "close") && !http1.EqualFold(v, "keep-alive") && !http1.EqualFold(v, "upgrade") {
			return true
		}
	}
	return false
}

// isNamed reports whether Connection names a field, which ends here then (RFC 9110, 7.6.1).
func isNamed(h *http1.Head, name []byte) bool {
	for i := h.Index(http1.Connection); i >= 0; i = h.Next(i) {
		for option := range bytes.SplitSeq(h.Value(i), []byte(",")) {
			if http1.EqualFold(text(bytes.Trim(option, " \t")), text(name)) {
				return true
			}
		}
	}
	return false
}

// lower gives a name in lower case, until the next call.
func (e *encoder) lower(name []byte) string {
	e.name = e.name[:0]
	for _, c := range name {
		e.name = append(e.name, http1.Lower(c))
	}
	return text(e.name)
}

// text sees bytes as a string that is valid as long as they are.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// request encodes the head of a request; an upgrade becomes an extended CONNECT.
func (e *encoder) request(h *http1.Head, scheme string, upgrade bool) {
	e.buf.Reset()
	switch {
	case upgrade:
		e.static(":method", "CONNECT")
		e.static(":protocol", "websocket")
	case h.Method == http1.GET:
		e.static(":method", "GET")
	case h.Method == http1.POST:
		e.static(":method", "POST")
	default:
		e.add(":method", h.MethodName())
	}
	if h.Method != http1.CONNECT {
		e.static(":scheme", scheme)
		e.add(":path", e.originForm(h))
	}
	e.add(":authority", h.Host())
	e.fields(h, upgrade)
	if h.TETrailers || isGRPC(h) {
		e.static("te", "trailers")
	}
}

// originForm is the target without scheme and authority.
func (e *encoder) originForm(h *http1.Head) []byte {
	if h.Form != http1.AbsoluteForm {
		return h.Target()
	}
	e.path = append(e.path[:0], h.Path()...)
	if h.HasQuery() {
		e.path = append(append(e.path, '?'), h.Query()...)
	}
	return e.path
}

// isGRPC reports whether the content is gRPC's, whose requests must say that trailers are understood. A proxy of HTTP/1.1 loses that, because TE ends at each hop.
func isGRPC(h *http1.Head) bool {
	return bytes.HasPrefix(h.Get(http1.ContentType), []byte("application/grpc"))
}

// The fields of WebSocket's handshake that HTTP/2 does without.
const (
	webSocketKey    = "sec-websocket-key"
	webSocketAccept = "sec-websocket-accept"
)

// acceptanceOf is what a server has to say about the key of a client (RFC 6455, 4.2.2).
func acceptanceOf(key []byte) string {
	sum := sha1.Sum(append(append([]byte(nil), key...), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// newKey is the key that a client of HTTP/2 does not send and a server of HTTP/1.1 asks for. It protects nothing here.
func newKey() string {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// isWebSocket reports whether an offer to upgrade is for that.
func isWebSocket(h *http1.Head) bool { return http1.EqualFold(text(h.Get(http1.Upgrade)), "websocket") }

// response encodes the head of an answer; 101 becomes the 200 to an extended CONNECT.
func (e *encoder) response(h *http1.Head, upgrade bool) {
	e.buf.Reset()
	status := h.Status
	if upgrade && status == 101 {
		status = 200
	}
	e.static(":status", statusTexts[status])
	e.fields(h, upgrade)
}

// trailers encodes trailers.
func (e *encoder) trailers(h *http1.Head) {
	e.buf.Reset()
	e.fields(h, false)
}

// statusTexts are the statuses as text.
var statusTexts = func() (t [600]string) {
	for i := range t {
		t[i] = strconv.Itoa(i)
	}
	return t
}()
