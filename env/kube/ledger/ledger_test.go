package ledger

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
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
	name := l.path
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

// TestALineThatTears breaks each write at each byte: what was written before and after is there.
func TestALineThatTears(t *testing.T) {
	t.Parallel()
	whole := func(l line) string {
		data, err := json.Marshal(l)
		require.NoError(t, err)
		return string(data) + "\n"
	}
	first, second := whole(line{Entry: made}), whole(line{Entry: scaled})
	for n := range len(second) {
		entries := parse([]byte(first + second[:n]))
		if n == len(second)-1 { // all but the end of the line
			require.Equal(t, []Entry{made, scaled}, entries)
			continue
		}
		require.Equal(t, []Entry{made}, entries)
		require.Equal(t, []Entry{made, scaled}, parse([]byte(first+second[:n]+"\n"+second)), "the next write begins a line of its own")
	}
}

func TestAWriteAfterOneThatFailed(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	l, err := Open("r-1")
	require.NoError(t, err)
	writable := l.file
	full, err := os.Open(l.path) // for reading only, so that a write fails
	require.NoError(t, err)
	defer full.Close()
	l.file = full
	require.Error(t, l.Note(made))
	_, err = writable.WriteString(`{"kind":"created-clu`) // as far as the disk took it
	require.NoError(t, err)
	l.file = writable
	require.NoError(t, l.Note(scaled))
	require.NoError(t, l.Close())
	dead, err := Dead()
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, []Entry{scaled}, dead[0].Entries)
	require.NoError(t, dead[0].Remove())
}

// TestRunsThatBeginWhileOthersHeal opens and looks at once: a living run is never taken for a dead one.
func TestRunsThatBeginWhileOthersHeal(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	stop := make(chan struct{})
	var healers sync.WaitGroup
	for range 2 {
		healers.Go(func() {
			for {
				dead, err := Dead()
				if err != nil || len(dead) > 0 {
					t.Errorf("dead: %v, %v", dead, err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 100 {
		l, err := Open(fmt.Sprintf("r-%d", i))
		require.NoError(t, err)
		require.NoError(t, l.Note(made))
		require.NoError(t, l.Remove())
	}
	close(stop)
	healers.Wait()
	left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_STATE_HOME"), "meshtest", "runs", "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestARunThatIsKilled runs this test in another process, which is killed after it has noted something.
func TestARunThatIsKilled(t *testing.T) {
	if os.Getenv("LEDGER_OF_A_RUN") != "" {
		l, err := Open("r-1")
		require.NoError(t, err)
		require.NoError(t, l.Note(made))
		fmt.Println("noted")
		select {}
	}
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	run := exec.Command(os.Args[0], "-test.run=^TestARunThatIsKilled$")
	run.Env = append(os.Environ(), "LEDGER_OF_A_RUN=1")
	out, err := run.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, run.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "noted\n", line)
	dead, err := Dead()
	require.NoError(t, err)
	require.Empty(t, dead)
	require.NoError(t, run.Process.Kill())
	require.Error(t, run.Wait())
	dead, err = Dead()
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, []Entry{made}, dead[0].Entries)
	info, err := os.Stat(filepath.Join(state, "meshtest", "runs"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NoError(t, dead[0].Remove())
}

func TestNamesOfRuns(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for _, run := range []string{"", "a/b", "../a"} {
		_, err := Open(run)
		require.ErrorContains(t, err, "this is no name of a file", run)
	}
}

func TestNoLedgers(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dead, err := Dead()
	require.NoError(t, err)
	require.Empty(t, dead)
}
