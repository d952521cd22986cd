package http1

// Exchange is what a response has to be read against: the request that it answers.
type Exchange struct {
	Method  Method
	Upgrade bool // the request offered an upgrade and was sent with it
}

// ExchangeOf gives the exchange of a request that is forwarded without its offer to upgrade; set Upgrade when Edits.KeepUpgrade was.
func ExchangeOf(req *Head) Exchange { return Exchange{Method: req.Method} }

// ParseRequest reads the head of a request from the front of buf. It returns the bytes consumed, 0 and ErrNeedMore, or 0 and a *ProtocolError. Each
// call must be given the same bytes again, and perhaps more behind them; where it had stopped is kept in h, so that no byte is searched twice. Leave
// h alone in between, or Reset it.
func ParseRequest(buf []byte, h *Head, lim *Limits) (n int, err error) { return 0, ErrNeedMore }

// ParseResponse does the same for a response. A 1xx (other than 101) is a head of its own without a body: parse again behind it.
func ParseResponse(buf []byte, h *Head, req Exchange, lim *Limits) (n int, err error) {
	return 0, ErrNeedMore
}

// Chunked reads the chunked transfer coding (RFC 9112, 7.1) from windows of bytes, strictly, and copies no payload.
type Chunked struct {
	done     bool
	payload  int64
	trailers Head
}

// Reset starts a new body.
func (c *Chunked) Reset(side Side, lim *Limits) {}

// Relay is BodyScanner.Scan.
func (c *Chunked) Relay(window []byte) (fwd, drop int, err error) { return 0, 0, nil }

// Payload is BodyScanner.Payload.
func (c *Chunked) Payload(window []byte) (skip, n int, err error) { return 0, 0, nil }

// Done reports whether the last chunk and the trailers behind it have been read.
func (c *Chunked) Done() bool { return c.done }

// PayloadBytes counts the bytes of payload so far.
func (c *Chunked) PayloadBytes() int64 { return c.payload }

// Delete deletes every line with that name. False when the name may not be deleted.
func (e *Edits) Delete(name string) bool { return false }

// DeleteKnown deletes every line of a known header, or of a family.
func (e *Edits) DeleteKnown(id Known) bool { return false }

// DeleteIndex deletes header line i of the head that is going to be written.
func (e *Edits) DeleteIndex(i int) {}

// Set replaces every line with that name, also those added so far, by one at the end of the block. False when name or value is refused.
func (e *Edits) Set(name, value string) bool { return false }

// SetBytes is Set with a value of bytes.
func (e *Edits) SetBytes(name string, value []byte) bool { return false }

// Add adds a line at the end of the block and leaves others with that name. False when name or value is refused.
func (e *Edits) Add(name, value string) bool { return false }

// AddBytes is Add with a value of bytes.
func (e *Edits) AddBytes(name string, value []byte) bool { return false }

// SetHost replaces Host, and writes it first. False when it is not host[:port].
func (e *Edits) SetHost(authority []byte) bool { return false }

// SetPath replaces the path that is written; the query stays. False when it does not begin with a slash, or holds what a path may not.
func (e *Edits) SetPath(path []byte) bool { return false }

// SetBody says that another body will be sent than the one that was announced: its framing replaces Content-Length and Transfer-Encoding.
func (e *Edits) SetBody(b Body) {}

// AppendRequest appends the head of a request as it goes to the next hop; e may be nil.
func AppendRequest(dst []byte, h *Head, e *Edits) []byte { return dst }

// AppendResponse appends the head of a response as it goes to the next hop; e may be nil.
func AppendResponse(dst []byte, h *Head, e *Edits) []byte { return dst }

// Reply is an answer of the proxy's own.
type Reply struct {
	Status      int
	ContentType string // none when empty
	Body        []byte
	HeadOnly    bool // the request was HEAD: announce the body, do not send it
}

// AppendReply appends a whole response; e may be nil, its additions and Close are used.
func AppendReply(dst []byte, r *Reply, e *Edits) []byte { return dst }

// AppendChunkSize appends the line that begins a chunk of n bytes, n > 0; CRLF must follow the data. LastChunk ends the body.
func AppendChunkSize(dst []byte, n int) []byte { return dst }

// LastChunk ends a chunked body without trailers; Continue is the interim response that lets a client send its body.
const (
	LastChunk = "0\r\n\r\n"
	Continue  = "HTTP/1.1 100 Continue\r\n\r\n"
)

// NormalizePath normalises the path of an origin-form target, without its query. The result is raw itself when nothing changes, else it is appended to dst[:0],
// which may be raw[:0]. It is a fixed point: normalising it again changes nothing. The error is a *ProtocolError.
func NormalizePath(dst, raw []byte, level PathNormalization) ([]byte, error) { return raw, nil }

// SplitHostPort splits host[:port], as Head.Host gives it; port is 0 when there is none. An IPv6 literal keeps its brackets.
func SplitHostPort(authority []byte) (host []byte, port uint16) { return authority, 0 }
