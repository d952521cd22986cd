// Package jsontext writes JSON into memory that is there, for what the proxy tells of its traffic while it carries it: nothing is allocated, and whatever strangers sent comes out as valid JSON.
package jsontext

import (
	"strconv"
	"unicode/utf8"
)

// AppendString appends the string in quotes. Bytes that are not UTF-8 become U+FFFD, as in encoding/json, and what HTML or JavaScript would understand is escaped.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if !plain[c] {
				b = append(b, s[start:i]...)
				b = appendEscaped(b, c)
				start = i + 1
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError || r == '\u2028' || r == '\u2029' || r < 0xa0 {
			b = append(b, s[start:i]...)
			b = appendUnicode(b, r)
			start = i + n
		}
		i += n
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// plain are the ASCII characters that stand for themselves.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()

func appendEscaped(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\t':
		return append(b, '\\', 't')
	default:
		return appendUnicode(b, rune(c))
	}
}

// appendUnicode appends an escape of a character of the basic plane.
func appendUnicode(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// AppendName appends a field's name, which needs no escapes, behind a comma unless it is the first of its object.
func AppendName(b []byte, name string) []byte {
	if last := b[len(b)-1]; last != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// AppendText appends a field with a string.
func AppendText(b []byte, name, value string) []byte { return AppendString(AppendName(b, name), value) }

// AppendInt appends a field with a number.
func AppendInt(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(AppendName(b, name), n, 10)
}
