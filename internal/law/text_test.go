package law

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var sleep = regexp.MustCompile(`\btime\.Sleep\(`)

// forbidden are things that no Go file may contain, with what to do instead and the files that may.
var forbidden = []struct {
	pattern *regexp.Regexp
	instead string
	tests   bool // applies to tests too
	except  []string
}{
	{sleep, "wait for the event, or use internal/testbubble", true, []string{"load/nap_other.go"}},
	{regexp.MustCompile(`\bsynctest\.Test\(`), "use testbubble.Test", true, []string{"internal/testbubble/testbubble.go"}},
	{regexp.MustCompile(`\binterface\{\}`), "write any", true, nil},
	{regexp.MustCompile(`(?m)^func init\(\)`), "wire it where it is used", true, nil},
	{regexp.MustCompile(`"failed to `), "say what was being done", false, nil},
	{regexp.MustCompile(`(?m)^\s+ctx\s+context\.Context$`), "pass the context", false, nil},
}

func TestForbiddenText(t *testing.T) {
	t.Parallel()
	for _, file := range goFiles(t) {
		data, err := os.ReadFile(filepath.Join("../..", file))
		require.NoError(t, err)
		for _, law := range forbidden {
			test := strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "internal/law/")
			fake := law.pattern == sleep && strings.HasSuffix(file, "_test.go") && strings.Contains(string(data), `/internal/testbubble"`) // there, sleeping takes no time
			if (test && !law.tests) || fake || slices.Contains(law.except, file) || strings.HasPrefix(file, "internal/law/") {
				continue
			}
			for _, at := range law.pattern.FindAllIndex(data, -1) {
				t.Errorf("%s:%d: %q: %s", file, 1+strings.Count(string(data[:at[0]]), "\n"), data[at[0]:at[1]], law.instead)
			}
		}
	}
}

func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	root := os.DirFS("../..")
	require.NoError(t, fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "meshtest-out") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".pb.go") {
			files = append(files, path)
		}
		return nil
	}))
	require.NotEmpty(t, files)
	return files
}
