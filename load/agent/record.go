package agent

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"meshtest.dev/meshtest/load"
)

// classes in the order of their numbers on the wire.
var classes = []load.Class{load.None, load.Timeout, load.Refused, load.Reset, load.EOF, load.Oversize, load.Unanswered, load.Other}

// Bounds of a record. Longer texts are cut when they are written: what was captured is a word or two, and the rest of an error is noise.
const (
	maxText     = 4 << 10
	maxCaptured = 64
	maxConnects = 1 << 20
)

// Bits of a record's first byte.
const (
	bitOK = 1 << iota
	bitAnswered
	bitCaptured
	bitReconnects
	bitClass // the first of three
)

// A packer turns records into bytes. Numbers are differences from what stands beside them, so that they are short: of the times of one request from each other, of the
// sequence number and intended time from the record before.
type packer struct {
	seq      uint64
	intended time.Duration
}

func (p *packer) append(b []byte, r load.Record) []byte {
	flags := byte(max(slices.Index(classes, r.Class), 0)) * bitClass
	if r.OK {
		flags |= bitOK
	}
	if r.Answered != 0 {
		flags |= bitAnswered
	}
	if len(r.Captured) > 0 {
		flags |= bitCaptured
	}
	if r.Reconnects != 0 {
		flags |= bitReconnects
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, int64(r.Seq-p.seq))
	b = binary.AppendVarint(b, int64(r.Intended-p.intended))
	p.seq, p.intended = r.Seq, r.Intended
	b = binary.AppendVarint(b, int64(r.Sent-r.Intended))
	if flags&bitAnswered != 0 {
		b = binary.AppendVarint(b, int64(r.Answered-r.Sent))
	}
	b = binary.AppendVarint(b, int64(r.Done-r.Sent))
	b = binary.AppendUvarint(b, uint64(r.Status))
	b = binary.AppendUvarint(b, uint64(r.BytesIn))
	if flags&bitReconnects != 0 {
		b = binary.AppendUvarint(b, uint64(r.Reconnects))
	}
	if r.Class != load.None {
		b = appendText(b, r.Error)
	}
	if flags&bitCaptured != 0 {
		b = appendCaptured(b, r.Captured)
	}
	return b
}

func appendCaptured(b []byte, captured map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(captured)))
	for _, name := range slices.Sorted(maps.Keys(captured)) {
		b = appendText(appendText(b, name), captured[name])
	}
	return b
}

func appendText(b []byte, s string) []byte {
	s = cut(s)
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// cut bounds a text without splitting a character.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "")
}

// unpack reads what a packer wrote since it was new, and hands each record to the sink.
func unpack(b []byte, sink func(load.Record)) error {
	u := unpacker{rest: b}
	for len(u.rest) > 0 {
		r := u.record()
		if u.wrong != "" {
			return fmt.Errorf("%w: a record with %s", errFrame, u.wrong)
		}
		sink(r)
	}
	return nil
}

// An unpacker reads numbers and texts until one is wrong; what it returns after that means nothing.
type unpacker struct {
	packer
	rest  []byte
	wrong string
}

func (u *unpacker) record() load.Record {
	flags := u.flags()
	u.seq += uint64(u.varint())
	u.intended += u.duration()
	r := load.Record{Seq: u.seq, Intended: u.intended, OK: flags&bitOK != 0, Class: classes[flags/bitClass%8]}
	r.Sent = r.Intended + u.duration()
	if flags&bitAnswered != 0 {
		r.Answered = r.Sent + u.duration()
	}
	r.Done = r.Sent + u.duration()
	r.Status = int(u.bounded("status", 999))
	r.BytesIn = int64(u.bounded("number of bytes", 1<<62))
	if flags&bitReconnects != 0 {
		r.Reconnects = int(u.bounded("number of connections", maxConnects))
	}
	if r.Class != load.None {
		r.Error = u.text()
	}
	if flags&bitCaptured != 0 {
		r.Captured = u.captured()
	}
	u.check(r)
	return r
}

// check refuses what no clock shows.
func (u *unpacker) check(r load.Record) {
	switch {
	case r.Intended < 0 || r.Sent < 0 || r.Done < r.Sent:
		u.fail("times that run backwards")
	case r.Answered != 0 && (r.Answered < r.Sent || r.Answered > r.Done):
		u.fail("an answer out of its time")
	case r.OK && r.Class != load.None:
		u.fail("a failure that is none")
	}
}

func (u *unpacker) fail(what string) {
	if u.wrong == "" {
		u.wrong = what
	}
	u.rest = nil
}

func (u *unpacker) flags() byte {
	if len(u.rest) == 0 {
		u.fail("no beginning")
		return 0
	}
	flags := u.rest[0]
	u.rest = u.rest[1:]
	if flags >= bitClass<<3 {
		u.fail("an unknown flag")
	}
	return flags
}

func (u *unpacker) varint() int64 {
	v, n := binary.Varint(u.rest)
	if n <= 0 {
		u.fail("half a number")
		return 0
	}
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) duration() time.Duration { return time.Duration(u.varint()) }

func (u *unpacker) bounded(what string, most uint64) uint64 {
	v, n := binary.Uvarint(u.rest)
	switch {
	case n <= 0:
		u.fail("half a number")
		return 0
	case v > most:
		u.fail("an impossible " + what)
		return 0
	}
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) text() string {
	n := int(u.bounded("length", maxText))
	if n > len(u.rest) {
		u.fail("half a text")
		return ""
	}
	s := string(u.rest[:n])
	u.rest = u.rest[n:]
	return s
}

func (u *unpacker) captured() map[string]string {
	n := u.bounded("number of headers", maxCaptured)
	captured := map[string]string{}
	for range n {
		name := u.text()
		captured[name] = u.text()
	}
	if uint64(len(captured)) != n || n == 0 {
		u.fail("a header twice, or none")
	}
	return captured
}
