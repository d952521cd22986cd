package http1

// Edits is what changes in a head on its way to the next hop: lines to delete, to replace and to add. It is not bound to a Head, so one can be compiled once
// for a route, or be reused for each message; it copies what it is given, and allocates nothing once warm.
//
// The framing and the connection are not its business: a name such as Content-Length, Transfer-Encoding, Connection or Upgrade is refused (by false). Use SetBody,
// Close and KeepUpgrade. Host is set, never deleted. A name that is no token, or a value with a control character, is refused as well: no edit splits a message.
type Edits struct {
	deleted knownSet
	indexes []int
	names   []span // of deleted names that are not known, in buf
	added   []addition
	buf     []byte

	host, path       span
	hasHost, hasPath bool
	body             Body
	hasBody          bool

	Close       bool // write "Connection: close"
	KeepUpgrade bool // pass on the Upgrade of a head whose Upgrade is true
}

// addition is a header line in buf, ready to be written.
type addition struct {
	line    span
	nameLen uint32
	dead    bool
}

// Reset empties the edits.
func (e *Edits) Reset() {
	*e = Edits{indexes: e.indexes[:0], names: e.names[:0], added: e.added[:0], buf: e.buf[:0]}
}
