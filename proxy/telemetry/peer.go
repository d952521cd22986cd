package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of an encoded peer.
const (
	// MaxPeer is the longest encoding of a peer, in bytes.
	MaxPeer = len(peerFormat) + peerFields*(1+maxPeerField)
	// maxPeerField is the longest encoding of one field: that of the longest name in Kubernetes.
	maxPeerField = 253
	peerFields   = 7
)

// peerFormat begins every encoding: another layout would begin with another number.
const peerFormat = "1"

// AppendPeer appends the peer as a header's value, for [mesh.HeaderPeer]: "1", then each field behind a semicolon, in the order of [Peer] and without the principal, which cannot be
// said but has to be proven. Bytes other than letters, digits, "-", "." and "_" are percent-encoded in upper case. A peer has exactly one encoding, of at most MaxPeer bytes: what is
// too long in a field, not UTF-8 or a control character is left out.
func AppendPeer(b []byte, p Peer) []byte {
	b = append(b, peerFormat...)
	for _, f := range p.fields() {
		b = appendPeerField(append(b, ';'), *f)
	}
	return b
}

// fields lists what is encoded.
func (p *Peer) fields() [peerFields]*string {
	return [peerFields]*string{&p.Workload, &p.Namespace, &p.App, &p.Version, &p.CanonicalService, &p.CanonicalRevision, &p.Cluster}
}

func appendPeerField(b []byte, field string) []byte {
	start := len(b)
	for i, r := range field {
		if !tellable(r) {
			continue
		}
		before := len(b)
		for _, c := range []byte(field[i : i+utf8.RuneLen(r)]) {
			b = appendPeerByte(b, c)
		}
		if len(b)-start > maxPeerField {
			return b[:before]
		}
	}
	return b
}

// tellable reports whether the character can stand in a label of Prometheus and in a terminal. A byte that is not UTF-8 is read as the replacement character.
func tellable(r rune) bool { return r != utf8.RuneError && r >= ' ' && (r < 0x7f || r >= 0xa0) }

func appendPeerByte(b []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	if plainPeerByte(c) {
		return append(b, c)
	}
	return append(b, '%', hex[c>>4], hex[c&15])
}

func plainPeerByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_'
}

var errPeer = errors.New("not the identity of a peer")

// ParsePeer reads what AppendPeer writes, and nothing else: AppendPeer of the result is the value again.
func ParsePeer(value []byte) (Peer, error) {
	var p Peer
	if len(value) > MaxPeer {
		return p, fmt.Errorf("%w: %d bytes, at most %d are allowed", errPeer, len(value), MaxPeer)
	}
	rest, ok := bytes.CutPrefix(value, []byte(peerFormat))
	if !ok {
		return p, fmt.Errorf("%w: it has another format", errPeer)
	}
	for i, f := range p.fields() {
		if rest, ok = bytes.CutPrefix(rest, []byte(";")); !ok {
			return Peer{}, fmt.Errorf("%w: field %d is missing", errPeer, i)
		}
		end := bytes.IndexByte(rest, ';')
		if end < 0 {
			end = len(rest)
		}
		text, err := parsePeerField(rest[:end])
		if err != nil {
			return Peer{}, fmt.Errorf("%w: field %d %w", errPeer, i, err)
		}
		*f, rest = text, rest[end:]
	}
	if len(rest) > 0 {
		return Peer{}, fmt.Errorf("%w: there is a field too many", errPeer)
	}
	return p, nil
}

var (
	errPeerLong   = errors.New("is too long")
	errPeerEscape = errors.New("has a byte that is not encoded as it has to be")
	errPeerText   = errors.New("has what is no text")
)

func parsePeerField(field []byte) (string, error) {
	if len(field) > maxPeerField {
		return "", errPeerLong
	}
	var text []byte
	for len(field) > 0 {
		c, n := field[0], 1
		if c == '%' {
			var ok bool
			if c, ok = escaped(field); !ok || plainPeerByte(c) {
				return "", errPeerEscape
			}
			n = 3
		} else if !plainPeerByte(c) {
			return "", errPeerEscape
		}
		text, field = append(text, c), field[n:]
	}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if !tellable(r) {
			return "", errPeerText
		}
		i += n
	}
	return string(text), nil
}

// escaped reads %XX.
func escaped(b []byte) (c byte, ok bool) {
	if len(b) < 3 {
		return 0, false
	}
	high, ok1 := upperHex(b[1])
	low, ok2 := upperHex(b[2])
	return high<<4 | low, ok1 && ok2
}

func upperHex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}
