package http2

import (
	"bytes"
	"hash/maphash"
	"strconv"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/proxy/http1"
)

// encoder compresses header blocks. Values that come again and again are put into the dynamic table; others would only push those out, and are sent as they are.
type encoder struct {
	enc  *hpack.Encoder
	buf  bytes.Buffer
	name []byte

	seed  maphash.Seed
	seen  [256]uint32       // hashes of pairs that came once, by their low bits
	known map[string]string // values that came twice or more, for ever valid
}

// maxKnown bounds the values that are kept for the dynamic table.
const maxKnown = 128

func newEncoder() *encoder {
	e := &encoder{seed: maphash.MakeSeed(), known: map[string]string{}}
	e.enc = hpack.NewEncoder(&e.buf)
	e.enc.SetMaxDynamicTableSizeLimit(tableSize)
	return e
}

// resize obeys the peer's SETTINGS_HEADER_TABLE_SIZE, as far as we use one.
func (e *encoder) resize(n uint32) { e.enc.SetMaxDynamicTableSize(min(n, tableSize)) }

// begin starts a block.
func (e *encoder) begin() { e.buf.Reset() }

// static adds a field of two strings that live for ever.
func (e *encoder) static(name, value string) {
	_ = e.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // a buffer takes everything
}

// add adds a field. Its bytes are only read.
func (e *encoder) add(name, value []byte) {
	if stable, ok := e.known[text(value)]; ok {
		_ = e.enc.WriteField(hpack.HeaderField{Name: e.lower(name), Value: stable, Sensitive: !e.indexable(name)})
		return
	}
	h := uint32(maphash.Bytes(e.seed, value)) | 1
	if slot := &e.seen[h>>1&255]; *slot != h {
		*slot = h
	} else if len(e.known) < maxKnown && len(value) <= 256 {
		stable := string(value)
		e.known[stable] = stable
	}
	_ = e.enc.WriteField(hpack.HeaderField{Name: e.lower(name), Value: text(value), Sensitive: true}) // so that the table does not keep what is not ours
}

// indexable reports whether the name may be kept by the table: it is one of a known name, whose string lives for ever.
func (e *encoder) indexable(name []byte) bool { return http1.KnownOf(text(name)).String() != "" }

// lower gives a name in lower case: a string that lives for ever when it is a known one, else until the next call.
func (e *encoder) lower(name []byte) string {
	if id := http1.KnownOf(text(name)); id != http1.Unknown && len(id.String()) == len(name) {
		return id.String()
	}
	e.name = e.name[:0]
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		e.name = append(e.name, c)
	}
	return text(e.name)
}

// text sees bytes as a string that is valid as long as they are.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// fields adds the fields of a head that go on.
func (e *encoder) fields(h *http1.Head) {
	for i := range h.Len() {
		switch h.Field(i).ID {
		case http1.Host, http1.Connection, http1.KeepAlive, http1.ProxyConnection, http1.TransferEncoding, http1.Upgrade, http1.HTTP2Settings, http1.TE:
		default:
			e.add(h.Name(i), h.Value(i))
		}
	}
}

// request encodes the head of a request.
func (e *encoder) request(h *http1.Head, scheme string) {
	e.begin()
	switch h.Method {
	case http1.GET:
		e.static(":method", "GET")
	case http1.POST:
		e.static(":method", "POST")
	default:
		e.add([]byte(":method"), h.MethodName())
	}
	e.static(":scheme", scheme)
	e.add([]byte(":authority"), h.Host())
	e.add([]byte(":path"), h.Target())
	e.fields(h)
	if h.TETrailers || isGRPC(h) {
		e.static("te", "trailers")
	}
}

func isGRPC(h *http1.Head) bool {
	return bytes.HasPrefix(h.Get(http1.ContentType), []byte("application/grpc"))
}

// response encodes the head of an answer.
func (e *encoder) response(h *http1.Head) {
	e.begin()
	e.static(":status", statusTexts[h.Status])
	e.fields(h)
}

// trailers encodes trailers.
func (e *encoder) trailers(h *http1.Head) {
	e.begin()
	e.fields(h)
}

// statusTexts are the statuses as text.
var statusTexts = func() (t [600]string) {
	for i := range t {
		t[i] = strconv.Itoa(i)
	}
	return t
}()
