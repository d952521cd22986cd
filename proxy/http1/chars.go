package http1

import (
	"bytes"
	"encoding/binary"
	"unsafe"
)

// Classes of characters, as bits of charClass.
const (
	classToken      = 1 << iota // tchar of RFC 9110, 5.6.2
	classUnderscore             // '_', which is a tchar too
	classTarget                 // may stand in a request target: visible ASCII except '#'
	classHost                   // may stand in a registered name here: letters, digits, - . _ ~
	classUnreserved             // unreserved of RFC 3986, 2.3
	classHex                    // HEXDIG in any case
)

var charClass = buildCharClass()

func buildCharClass() (t [256]uint8) {
	add := func(chars string, class uint8) {
		for i := range len(chars) {
			t[chars[i]] |= class
		}
	}
	const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	add(alphanumeric+"!#$%&'*+-.^_`|~", classToken)
	add("_", classUnderscore)
	add(alphanumeric+"-._~", classHost|classUnreserved)
	add("0123456789abcdefABCDEF", classHex)
	for c := 0x21; c < 0x7f; c++ {
		if c != '#' {
			t[c] |= classTarget
		}
	}
	return t
}

// all reports whether every byte is of the class.
func all[T string | []byte](s T, class uint8) bool {
	for i := range len(s) {
		if charClass[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

func isToken[T string | []byte](s T) bool { return len(s) > 0 && all(s, classToken) }

// Lower is a letter of ASCII in lower case, and any other byte as it is.
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// EqualFold compares in ASCII without regard to case.
func EqualFold[A, B string | []byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && Lower(a[i]) != Lower(b[i]) {
			return false
		}
	}
	return true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// badValue finds the first byte that may not stand in a header value or a reason phrase (RFC 9110, 5.5: a control character other than HTAB); -1 when
// there is none. It looks at eight bytes at a time: a byte is below 0x20 when subtracting 0x20 borrows into its high bit, and 0x7f when the XOR with it is zero.
func badValue[T string | []byte](v T) int {
	s, i := bytesOf(v), 0
	for ; len(s)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		del := w ^ 0x7f*ones
		if ((w-0x20*ones)&^w|(del-ones)&^del)&highs != 0 {
			if j := badByte(s[i : i+8]); j >= 0 {
				return i + j
			}
		}
	}
	if j := badByte(s[i:]); j >= 0 {
		return i + j
	}
	return -1
}

// bytesOf sees a text as bytes, which must not be changed. Strings and slices both begin with the address of what is in them.
func bytesOf[T string | []byte](v T) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&v)), len(v))
}

func badByte[T string | []byte](s T) int {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return i
		}
	}
	return -1
}

// trim removes optional whitespace (OWS: SP and HTAB) at both ends.
func trim(s []byte) []byte {
	for len(s) > 0 && isSpace(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// element cuts the first element, trimmed and perhaps empty, from a comma-separated list without quoted strings.
func element(list []byte) (first, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		return trim(list[:i]), list[i+1:]
	}
	return trim(list), nil
}
