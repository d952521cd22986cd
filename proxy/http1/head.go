package http1

// Method is a request method that has rules of its own, or is common; MethodOther is any other token.
type Method uint8

// The methods of RFC 9110 and RFC 5789.
const (
	MethodOther Method = iota
	GET
	HEAD
	POST
	PUT
	DELETE
	CONNECT
	OPTIONS
	TRACE
	PATCH
)

// Version is that of the message as it arrived; what is written is always HTTP/1.1.
type Version uint8

// The versions that are spoken.
const (
	HTTP10 Version = iota
	HTTP11
)

// TargetForm is the form of a request target (RFC 9112, 3.2).
type TargetForm uint8

// The four forms.
const (
	OriginForm    TargetForm = iota // /path?query
	AbsoluteForm                    // http://host/path?query; forwarded in origin-form
	AuthorityForm                   // host:port, with CONNECT only
	AsteriskForm                    // *, with OPTIONS only
)

// Field is one header line: where its name and its value, without the whitespace around it, lie in the block.
type Field struct {
	NameOff, NameLen uint32
	ValOff, ValLen   uint32
	ID               Known
	flags            fieldFlags
}

type fieldFlags uint8

const (
	fieldDropped fieldFlags = 1 << iota // ends at this hop
	fieldUntidy                         // not "name: value" or "name:value": rewritten when forwarded
)

// Head is the head of a message: the bytes of its header block and an index of them. It is made to be reused: once warm, parsing into it
// allocates nothing. All slices that it returns point into the buffer that was parsed (or into the Head), which must not change while they are used.
//
// The fields are results of parsing, to be read.
type Head struct {
	Method  Method     // of a request
	Form    TargetForm // of a request's target
	HTTPS   bool       // the target is absolute and its scheme is https
	Version Version
	Status  int // of a response

	Body       Body
	KeepAlive  bool // the connection may carry another message behind this one
	Expect100  bool // the client waits for 100 (Continue) before it sends its body
	Upgrade    bool // a GET with a valid offer to leave HTTP (h2c excepted), or a 101 that accepts it; see Edits.KeepUpgrade
	TETrailers bool // "TE: trailers"

	buf     []byte
	fields  []Field
	first   [numKnown]uint16 // number of the first field with an ID, plus one
	present knownSet         // IDs that occurred
	twice   knownSet         // IDs that occurred more than once

	method, target, host, reason span
	rawPath, query               span
	hasQuery                     bool
	pathChanged                  bool // the normalised path is pathBuf, not rawPath
	pathBuf                      []byte

	phase      phase
	start      int // first byte of the first line
	line       int // first byte of the line that is being read
	seen       int // no LF in buf[line:seen]
	fieldStart int // first byte of the first header line
	fieldEnd   int // behind the last header line, at the CRLF that ends the head
}

// span is a part of the buffer.
type span struct{ off, end uint32 }

func (h *Head) bytes(s span) []byte { return h.buf[s.off:s.end:s.end] }

type phase uint8

const (
	phaseFirstLine phase = iota
	phaseFields
	phaseDone
)

// Reset forgets the message, so that a new one can be parsed. The parsers call it themselves on a Head that is complete or was refused; it is needed
// only to abandon one half way.
func (h *Head) Reset() {
	fields, pathBuf := h.fields[:0], h.pathBuf[:0]
	*h = Head{fields: fields, pathBuf: pathBuf}
}

// Rebind tells the head that its block, the n bytes that parsing consumed, was copied to the front of buf.
func (h *Head) Rebind(buf []byte) {
	h.buf = buf[:len(h.buf)]
}

// Bytes gives the block as it arrived, from the first byte of the parsed buffer to the empty line that ends the head.
func (h *Head) Bytes() []byte { return h.buf }

// MethodName gives the method as sent; methods are case-sensitive.
func (h *Head) MethodName() []byte { return h.bytes(h.method) }

// Target gives the request target as sent.
func (h *Head) Target() []byte { return h.bytes(h.target) }

// Path gives the path of the target, normalised as Limits.Path says: the bytes to route by, to judge by and to forward. "*" for the asterisk form, empty for
// the authority form.
func (h *Head) Path() []byte {
	if h.pathChanged {
		return h.pathBuf
	}
	return h.bytes(h.rawPath)
}

// RawPath gives the path as sent.
func (h *Head) RawPath() []byte { return h.bytes(h.rawPath) }

// Query gives the query without its question mark, as sent.
func (h *Head) Query() []byte { return h.bytes(h.query) }

// HasQuery reports whether the target has a question mark, even with nothing behind it.
func (h *Head) HasQuery() bool { return h.hasQuery }

// Host gives the authority that the request is for, host[:port], as sent: Host, or the target's authority, which is the same; with CONNECT always
// the target's. Empty only for an HTTP/1.0 request without Host.
func (h *Head) Host() []byte { return h.bytes(h.host) }

// Reason gives the reason phrase of a response, perhaps empty.
func (h *Head) Reason() []byte { return h.bytes(h.reason) }

// Len gives the number of header lines, duplicates counted.
func (h *Head) Len() int { return len(h.fields) }

// Field gives header line i, in order of arrival.
func (h *Head) Field(i int) Field { return h.fields[i] }

// Name gives the name of header line i as sent.
func (h *Head) Name(i int) []byte {
	f := &h.fields[i]
	return h.buf[f.NameOff : f.NameOff+f.NameLen : f.NameOff+f.NameLen]
}

// Value gives the value of header line i, without the whitespace around it.
func (h *Head) Value(i int) []byte {
	f := &h.fields[i]
	return h.buf[f.ValOff : f.ValOff+f.ValLen : f.ValOff+f.ValLen]
}

// Has reports whether a known header occurs.
func (h *Head) Has(id Known) bool { return h.first[id] != 0 }

// HasAny reports whether any header of the set occurs.
func (h *Head) HasAny(set KnownSet) bool { return h.present[0]&set[0]|h.present[1]&set[1] != 0 }

// Get gives the value of the first line of a known header, nil when there is none. A value that is present and empty is not nil.
func (h *Head) Get(id Known) []byte {
	if i := h.Index(id); i >= 0 {
		return h.Value(i)
	}
	return nil
}

// Index gives the number of the first line of a known header, -1 when there is none.
func (h *Head) Index(id Known) int { return int(h.first[id]) - 1 }

// Next gives the number of the next line behind i with the same name, -1 when there is none. For a family (XMeshtestOther) it is the next of the family.
func (h *Head) Next(i int) int {
	f := &h.fields[i]
	for j := i + 1; j < len(h.fields); j++ {
		if h.fields[j].ID == f.ID && (f.ID != Unknown || EqualFold(h.Name(j), h.Name(i))) {
			return j
		}
	}
	return -1
}

// Find gives the number of the first line with that name in any case, -1 when there is none.
func (h *Head) Find(name string) int {
	if !isToken(name) {
		return -1
	}
	id := recognise(name)
	if id != Unknown && h.first[id] == 0 {
		return -1
	}
	for i := range h.fields {
		if h.fields[i].ID == id && EqualFold(h.Name(i), name) {
			return i
		}
	}
	return -1
}

// Lookup gives the value of the first line with that name in any case, nil when there is none. A value that is present and empty is not nil.
func (h *Head) Lookup(name string) []byte {
	if i := h.Find(name); i >= 0 {
		return h.Value(i)
	}
	return nil
}
