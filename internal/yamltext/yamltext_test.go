package yamltext

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDocuments(t *testing.T) {
	t.Parallel()
	roots, err := Documents([]byte("---\n# nothing\n---\na: 1\n---\n- b\n---\nnull\n---\nword\n"))
	require.Nil(t, err)
	require.Len(t, roots, 3)
	require.Equal(t, 4, roots[0].Line)
	require.Equal(t, "word", roots[2].Value)
	roots, err = Documents(nil)
	require.Nil(t, err)
	require.Empty(t, roots)
}

func TestWhatIsNoYAML(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a: [":                      "1:1: MT1006 not valid YAML: did not find expected node content",
		"a: 1\nb: {\n":              "2:1: MT1006 not valid YAML: did not find expected node content",
		"a: 1\n---\nb: {c: d\n\te}": "4:1: MT1007 a tab in the indentation",
		"a: 1\nbé: \xff":            "2:5: MT1003 the file is not UTF-8",
	} {
		roots, err := Documents([]byte(text))
		require.Nil(t, roots, "%q", text)
		require.EqualError(t, err, want, "%q", text)
	}
}

// Any text is either YAML or an error with a place.
func FuzzDocuments(f *testing.F) {
	for _, text := range []string{"a: [", "\t", "---\n...\n", "a: &a [*a]", "\xef\xbb\xbfa: 1", "a: 1\n\tb: 2"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := Documents(text); err != nil {
			require.Positive(t, err.Line)
			require.Positive(t, err.Col)
			require.NotEmpty(t, err.Code)
		}
	})
}
