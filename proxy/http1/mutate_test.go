package http1_test

import (
	"testing"

	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/http1/vectors"
)

// meaningful are the bytes that parsers disagree about.
const meaningful = "\r\n\x00\t :,;=\"\\/\x0b\x7f\x800x%#"

// mutants gives in with one byte, at each place, removed, replaced or preceded by each meaningful one, and with CRLF inserted.
func mutants(in string, visit func(string)) {
	for i := range len(in) {
		before, after := in[:i], in[i+1:]
		visit(before + after)
		visit(before + "\r\n" + in[i:])
		for _, b := range []byte(meaningful) {
			visit(before + string([]byte{b}) + after)
			visit(before + string([]byte{b}) + in[i:])
		}
	}
}

// TestMutants changes accepted messages by one meaningful byte, everywhere. Whatever is still accepted must keep the promises that the fuzz targets check.
func TestMutants(t *testing.T) {
	t.Parallel()
	const longest = 56 // bytes; longer vectors add time, not places
	t.Run("requests", func(t *testing.T) {
		t.Parallel()
		for _, v := range vectors.Requests() {
			if v.Status == 0 && len(v.In) <= longest {
				mutants(v.In, func(in string) { checkRequest(t, in) })
			}
		}
	})
	t.Run("responses", func(t *testing.T) {
		t.Parallel()
		for _, v := range vectors.Responses() {
			if v.Reason == "" && len(v.In) <= longest {
				mutants(v.In, func(in string) { checkResponse(t, in, byte(methods[v.Method]), v.Upgrade) })
			}
		}
	})
	t.Run("chunked", func(t *testing.T) {
		t.Parallel()
		for _, v := range vectors.ChunkedBodies() {
			if v.Reason == "" && len(v.In) <= longest {
				mutants(v.In, func(in string) { checkChunked(t, in, 2) })
			}
		}
	})
	t.Run("paths", func(t *testing.T) {
		t.Parallel()
		for _, v := range vectors.Paths() {
			mutants(v.In, func(in string) { checkPath(t, in) })
		}
	})
}

// checkPath holds for any path: the result is a fixed point, begins with a slash, is not longer, and hides no dot segment at the levels that remove them.
func checkPath(t *testing.T, in string) {
	if len(in) == 0 || in[0] != '/' {
		return
	}
	for level := http1.PathNone; level <= http1.PathDecodeAndMergeSlashes; level++ {
		requireNormal(t, in, level)
	}
}
