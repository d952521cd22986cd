package ledger

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	made   = Entry{Kind: CreatedCluster, Name: "meshtest-r-1"}
	scaled = Entry{Kind: ScaledDeployment, Place: Place{Cluster: "c"}, Namespace: "n", Name: "web", Replicas: 3}
)

func TestALivingRunIsNotDead(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	l, err := Open("r-1")
	require.NoError(t, err)
	require.NoError(t, l.Note(made))
	dead, err := Dead()
	require.NoError(t, err)
	require.Empty(t, dead)
	_, err = Open("r-1")
	require.Error(t, err, "a run has one ledger")
	require.NoError(t, l.Remove())
	dead, err = Dead()
	require.NoError(t, err)
	require.Empty(t, dead)
}

func TestWhatADeadRunHasLeft(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	l, err := Open("r-1")
	require.NoError(t, err)
	require.NoError(t, l.Note(made))
	require.NoError(t, l.Note(scaled))
	require.NoError(t, l.Done(made))
	name := l.file.Name()
	require.NoError(t, l.Close()) // what the end of the process does, however it ends

	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"kind":"cordoned-no`)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	dead, err := Dead()
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, "r-1", dead[0].Run)
	require.Equal(t, []Entry{scaled}, dead[0].Entries, "what was undone and what was torn is not there")
	again, err := Dead()
	require.NoError(t, err)
	require.Empty(t, again, "another heal has it")
	require.NoError(t, dead[0].Close())
	again, err = Dead()
	require.NoError(t, err)
	require.Len(t, again, 1, "what could not be undone stays")
	require.NoError(t, again[0].Remove())
	require.NoFileExists(t, name)
	require.DirExists(t, filepath.Dir(name))
}

func TestNoLedgers(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dead, err := Dead()
	require.NoError(t, err)
	require.Empty(t, dead)
}
