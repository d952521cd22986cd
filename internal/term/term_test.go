package term

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheRegionStaysBelowTheLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	term := New(&out, Mode{Live: true}, nil)
	term.Region([]string{"a", "b"})
	term.Println("line")
	term.Region([]string{"c"})
	term.Region(nil)
	term.Println("end")
	require.Equal(t, "a\nb\n"+"\x1b[2A\r\x1b[Jline\na\nb\n"+"\x1b[2A\r\x1b[Jc\n"+"\x1b[1A\r\x1b[J"+"end\n", out.String())
}

func TestWithoutATerminalThereAreOnlyLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	term := New(&out, Mode{}, nil)
	term.Region([]string{"a"})
	term.Println(term.Paint(Red, "line"))
	require.Equal(t, "line\n", out.String())
}

func TestALongLineIsCutAndItsStyleEnds(t *testing.T) {
	t.Parallel()
	require.Equal(t, "\x1b[31mab\x1b[0m", cut("\x1b[31mabcdef", 2))
	require.Equal(t, "ab", cut("abcdef", 2))
	require.Equal(t, "abc", cut("abc", 9))
}

func TestColourFollowsTheConventions(t *testing.T) {
	t.Parallel()
	file, err := os.Create(t.TempDir() + "/file")
	require.NoError(t, err)
	defer file.Close()
	env := func(kv map[string]string) func(string) string { return func(k string) string { return kv[k] } }
	require.Equal(t, Mode{}, Detect(file, env(nil)), "a file is no terminal")
	require.Equal(t, Mode{Color: true}, Detect(file, env(map[string]string{"CLICOLOR_FORCE": "1"})))
	require.Equal(t, Mode{}, Detect(file, env(map[string]string{"CLICOLOR_FORCE": "1", "NO_COLOR": "1"})))
}
