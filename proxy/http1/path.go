package http1

import "bytes"

// PathNormalization says how much of the spelling of a path is taken away before anybody looks at it. The levels are those of Istio's
// MeshConfig.pathNormalization.
type PathNormalization uint8

// The levels. At every level a path with a bad percent escape, with %00 or with a backslash is refused.
const (
	// PathNone leaves the path as it is.
	PathNone PathNormalization = iota
	// PathBase decodes percent-encoded unreserved characters, writes other escapes in upper case, and removes dot segments (RFC 3986, 6.2.2). %2F and %5C stay
	// escapes: they are data within a segment. (Istio's BASE turns a backslash into a slash; here it is refused.)
	PathBase
	// PathMergeSlashes does that, and then makes one slash of several.
	PathMergeSlashes
	// PathDecodeAndMergeSlashes decodes %2F and %5C first, both to a slash, and then does the same as PathMergeSlashes.
	PathDecodeAndMergeSlashes
)

// NormalizePath normalises the path of an origin-form target, without its query. The result is raw itself when nothing changes, else it is appended to dst[:0],
// which may be raw[:0]. It is a fixed point: normalising it again changes nothing. The error is a *ProtocolError.
func NormalizePath(dst, raw []byte, level PathNormalization) ([]byte, error) {
	normal, changed, f := normalize(dst, raw, level)
	switch {
	case f != ok:
		return nil, Request.refuse(f)
	case !changed:
		return raw, nil
	default:
		return normal, nil
	}
}

// normalize writes into dst[:0] when it changes something.
func normalize(dst, raw []byte, level PathNormalization) (normal []byte, changed bool, f fault) {
	escapes := bytes.IndexByte(raw, '%') >= 0
	if bytes.IndexByte(raw, '\\') >= 0 {
		return dst, false, faultPathBackslash
	}
	if escapes {
		if f := judgeEscapes(raw); f != ok {
			return dst, false, f
		}
	}
	dots := bytes.Contains(raw, []byte("/."))
	slashes := level >= PathMergeSlashes && bytes.Contains(raw, []byte("//"))
	if level == PathNone || !escapes && !dots && !slashes {
		return dst, false, ok
	}
	normal = decodeEscapes(dst[:0], raw, level)
	normal = removeDotSegments(normal)
	if level >= PathMergeSlashes {
		normal = mergeSlashes(normal)
	}
	return normal, true, ok
}

func judgeEscapes(path []byte) fault {
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		if len(path)-i < 3 || !all(path[i+1:i+3], classHex) {
			return faultPathEscape
		}
		if path[i+1] == '0' && path[i+2] == '0' {
			return faultPathNUL
		}
		i += 2
	}
	return ok
}

// decodeEscapes decodes what may be decoded, once: the percent sign itself stays an escape, so that nothing appears that a second decoding would change.
func decodeEscapes(dst, path []byte, level PathNormalization) []byte {
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			dst = append(dst, path[i])
			continue
		}
		high, low := path[i+1], path[i+2]
		i += 2
		c := unhex(high)<<4 | unhex(low)
		switch {
		case charClass[c]&classUnreserved != 0:
			dst = append(dst, c)
		case (c == '/' || c == '\\') && level == PathDecodeAndMergeSlashes:
			dst = append(dst, '/')
		default:
			dst = append(dst, '%', upper(high), upper(low))
		}
	}
	return dst
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'f' {
		return c &^ 0x20
	}
	return c
}

// removeDotSegments is RFC 3986, 5.2.4, in place, for a path that begins with a slash; ".." above the root is dropped.
func removeDotSegments(p []byte) []byte {
	w := 0
	for r := 0; r < len(p); {
		end := len(p)
		if i := bytes.IndexByte(p[r+1:], '/'); i >= 0 {
			end = r + 1 + i
		}
		segment, last := p[r+1:end], end == len(p)
		switch {
		case len(segment) == 1 && segment[0] == '.':
		case len(segment) == 2 && segment[0] == '.' && segment[1] == '.':
			w = max(bytes.LastIndexByte(p[:w], '/'), 0)
		default:
			w += copy(p[w:], p[r:end])
			last = false
		}
		if last {
			p[w] = '/'
			w++
		}
		r = end
	}
	return p[:w]
}

func mergeSlashes(p []byte) []byte {
	w := 0
	for r, c := range p {
		if c == '/' && r > 0 && p[w-1] == '/' {
			continue
		}
		p[w] = c
		w++
	}
	return p[:w]
}
