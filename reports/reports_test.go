package reports

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "record the journals under fixtures/journals and the golden reports anew")

const journals = "../fixtures/journals"

func names() []string { return slices.Sorted(maps.Keys(plays)) }

func open(t *testing.T, name string) *Story {
	t.Helper()
	s, err := Open(filepath.Join(journals, name))
	require.NoError(t, err)
	return s
}

func TestRecordJournals(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	for _, name := range names() {
		dir := filepath.Join(journals, name)
		require.NoError(t, os.RemoveAll(dir))
		play(t, name, dir)
	}
}

func TestReportsAreAsTheyWere(t *testing.T) {
	for _, name := range names() {
		t.Run(name, func(t *testing.T) {
			s := open(t, name)
			for _, f := range forms {
				var b, again bytes.Buffer
				require.NoError(t, f.write(&b, s))
				require.NoError(t, f.write(&again, open(t, name)))
				require.Equal(t, b.String(), again.String(), "%s rendered twice", f.file)
				golden := filepath.Join("testdata", name, f.file)
				if *update {
					require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
					require.NoError(t, os.WriteFile(golden, b.Bytes(), 0o644))
				}
				want, err := os.ReadFile(golden)
				require.NoError(t, err, "go test ./reports -update makes it")
				require.Equal(t, string(want), b.String(), "%s: go test ./reports -update accepts the change", f.file)
			}
		})
	}
}
