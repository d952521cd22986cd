package http1

import (
	"bytes"
	"slices"
)

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

// Clone gives edits of their own that begin as these.
func (e *Edits) Clone() Edits {
	c := *e
	c.indexes, c.names, c.added, c.buf = slices.Clone(e.indexes), slices.Clone(e.names), slices.Clone(e.added), slices.Clone(e.buf)
	return c
}

// Delete deletes every line with that name, also those added so far. False when the name may not be deleted.
func (e *Edits) Delete(name string) bool {
	id, ok := nameOf(name)
	if !ok || id == Host || framing.has(id) {
		return false
	}
	e.remove(id, name)
	return true
}

func (e *Edits) remove(id Known, name string) {
	e.unadd(name)
	if id != Unknown && !id.isFamily() {
		e.deleted.add(id)
		return
	}
	off := len(e.buf)
	e.buf = append(e.buf, name...)
	e.names = append(e.names, span{uint32(off), uint32(len(e.buf))})
}

// DeleteKnown deletes every line of a known header that came with the head; not those that are added. For a family, XMeshtestOther say, it deletes every name with
// its prefix, those with a number of their own included. False when it may not be deleted.
func (e *Edits) DeleteKnown(id Known) bool {
	if id == Unknown || id == Host || framing.has(id) {
		return false
	}
	e.deleted.add(id)
	if id.isFamily() {
		e.deleted.addAll(familyMembers[id])
	}
	return true
}

// DeleteIndex deletes header line i of the head that is going to be written, unless it is Host or framing.
func (e *Edits) DeleteIndex(i int) { e.indexes = append(e.indexes, i) }

// Set replaces every line with that name, also those added so far, by one at the end of the block. False when name or value is refused.
func (e *Edits) Set(name, value string) bool { return set(e, name, value) }

// SetBytes is Set with a value of bytes.
func (e *Edits) SetBytes(name string, value []byte) bool { return set(e, name, value) }

// Add adds a line at the end of the block and leaves others with that name; it sets Host. False when name or value is refused.
func (e *Edits) Add(name, value string) bool { return add(e, name, value) }

// AddBytes is Add with a value of bytes.
func (e *Edits) AddBytes(name string, value []byte) bool { return add(e, name, value) }

// AddKnown is Add for a known header other than Host, without looking its name up.
func (e *Edits) AddKnown(id Known, value string) bool { return addKnown(e, id, value) }

// AddKnownBytes is AddKnown with a value of bytes.
func (e *Edits) AddKnownBytes(id Known, value []byte) bool { return addKnown(e, id, value) }

func addKnown[V string | []byte](e *Edits, id Known, value V) bool {
	if id == Unknown || id == Host || id.isFamily() || framing.has(id) || badValue(value) >= 0 {
		return false
	}
	appendAddition(e, id.String(), value)
	return true
}

func set[V string | []byte](e *Edits, name string, value V) bool {
	switch id, ok := nameOf(name); {
	case id == Host:
		return setHost(e, value)
	case !ok || framing.has(id) || badValue(value) >= 0:
		return false
	default:
		e.remove(id, name)
	}
	appendAddition(e, name, value)
	return true
}

func add[V string | []byte](e *Edits, name string, value V) bool {
	switch id, ok := nameOf(name); {
	case id == Host:
		return setHost(e, value)
	case !ok || framing.has(id) || badValue(value) >= 0: // edits are kept away from framing and connection management
		return false
	}
	appendAddition(e, name, value)
	return true
}

func appendAddition[V string | []byte](e *Edits, name string, value V) {
	off := len(e.buf)
	e.buf = appendField(e.buf, name, value)
	e.added = append(e.added, addition{line: span{uint32(off), uint32(len(e.buf))}, nameLen: uint32(len(name))})
}

// unadd takes back earlier additions with that name.
func (e *Edits) unadd(name string) {
	for i := range e.added {
		a := &e.added[i]
		if EqualFold(e.buf[a.line.off:a.line.off+a.nameLen], name) {
			a.dead = true
		}
	}
}

// SetHost replaces Host, and writes it first. False when it is not host[:port].
func (e *Edits) SetHost(authority []byte) bool { return setHost(e, authority) }

func setHost[V string | []byte](e *Edits, authority V) bool {
	off := len(e.buf)
	e.buf = append(e.buf, authority...)
	if !validAuthority(e.buf[off:]) {
		e.buf = e.buf[:off]
		return false
	}
	e.host, e.hasHost = span{uint32(off), uint32(len(e.buf))}, true
	return true
}

// HostOf gives the authority with which a request goes on: the one that was set, or else its own.
func (e *Edits) HostOf(h *Head) []byte {
	if e.hasHost {
		return e.buf[e.host.off:e.host.end]
	}
	return h.Host()
}

// SetPath replaces the path that is written; the query stays. It should be normalised. False when it does not begin with a slash, or holds a character that a
// path may not hold.
func (e *Edits) SetPath(path []byte) bool {
	if len(path) == 0 || path[0] != '/' || !all(path, classTarget) || bytes.ContainsAny(path, "?\\") {
		return false
	}
	off := len(e.buf)
	e.buf = append(e.buf, path...)
	e.path, e.hasPath = span{uint32(off), uint32(len(e.buf))}, true
	return true
}

// SetBody says that another body will be sent than the one that was announced: its framing replaces Content-Length and Transfer-Encoding.
func (e *Edits) SetBody(b Body) { e.body, e.hasBody = b, true }

// deletes reports whether header line i is deleted.
func (e *Edits) deletes(h *Head, i int) bool {
	f := &h.fields[i]
	if e.deleted.has(f.ID) {
		return true
	}
	for _, n := range e.names {
		if EqualFold(h.Name(i), e.buf[n.off:n.end]) {
			return true
		}
	}
	for _, j := range e.indexes {
		if i == j && f.ID != Host && !framing.has(f.ID) {
			return true
		}
	}
	return false
}
