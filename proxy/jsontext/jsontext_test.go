package jsontext_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/jsontext"
)

func TestFields(t *testing.T) {
	t.Parallel()
	b := jsontext.AppendText([]byte("{"), "a", "x\"\\\n\t<\u2028é\x00")
	b = jsontext.AppendInt(b, "b", -1)
	require.Equal(t, `{"a":"x\"\\\n\t\u003c\u2028é\u0000","b":-1`, string(b))
}

func TestNothingIsAllocated(t *testing.T) {
	b := make([]byte, 0, 1024)
	hostile := strings.Repeat("\x00\xff\u2028é\"", 20)
	require.Zero(t, testing.AllocsPerRun(100, func() { b = jsontext.AppendString(b[:0], hostile) }))
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\t\x00\x7f\x80\xff", "é\u2028\u2029\ufffd\U0001f600\u0085", "</script>&"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := jsontext.AppendString(nil, s)
		var back string
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, strings.ToValidUTF8(expand(s), "\ufffd"), back)
		for _, c := range b {
			require.False(t, c < ' ' || c == 0x7f || c == '<' || c == '>', "%q", b)
		}
	})
}

// expand makes each byte that is not UTF-8 a run of its own, which ToValidUTF8 would otherwise replace as one.
func expand(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}
