package run

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/journal"
)

func TestSetupThatFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.perform(t.Context(), smoke+`
setup:
  - {name: first, command: [sh, -c, "echo begun >> $MESHTEST_OUT/trace"]}
  - {name: second, command: [sh, -c, "echo one; echo $WHY >&2; exit 3"], env: {WHY: "seed ${seed}"}}
  - {name: third, command: [sh, -c, "echo never >> $MESHTEST_OUT/trace"]}
teardown:
  - {name: after, command: [sh, -c, "echo ended >> $MESHTEST_OUT/trace"]}
  - {name: careless, command: [sh, -c, "exit 5"]}
`)
		require.Equal(t, Invalid, o.Verdict)
		require.Equal(t, 4, o.ExitCode)
		require.Equal(t, "setup: second: exit status 3\n  | one\n  | seed 42", o.Reason)
		require.Zero(t, w.ups, "nothing was started")
		trace, err := os.ReadFile(filepath.Join(o.out, "trace"))
		require.NoError(t, err)
		require.Equal(t, "begun\nended\n", string(trace))
		log, err := os.ReadFile(filepath.Join(o.out, "logs", "setup-second.log"))
		require.NoError(t, err)
		require.Equal(t, "one\nseed 42\n", string(log))
	})
}

func TestTeardown(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.perform(t.Context(), smoke+"teardown: [{name: careless, command: [sh, -c, exit 5]}]\n")
		require.Equal(t, Passed, o.Verdict, o.Reason)
		require.Equal(t, 1, w.downs)
	})
	in(t, func(t *testing.T, w *world) {
		o := w.perform(t.Context(), smoke+"teardown: [{name: careful, command: [sh, -c, exit 5], required: true}]\n")
		require.Equal(t, Invalid, o.Verdict)
		require.Contains(t, o.Reason, "teardown: careful: exit status 5 (the verdict was pass: ")
	})
}

func TestAnEnvironmentThatDoesNotStand(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.upErr = errors.New("no engine answers")
		o := w.perform(t.Context(), smoke+"teardown: [{name: after, command: [sh, -c, echo ended > $MESHTEST_OUT/trace]}]\n")
		require.Equal(t, Invalid, o.Verdict)
		require.Equal(t, "no engine answers", o.Reason)
		_, err := os.Stat(filepath.Join(o.out, "trace"))
		require.NoError(t, err, "teardown runs on every path")
	})
}

// Commands before the first job come before everything, and those after the last one after everything.
func TestJobsAndCommandsKeepTheirOrder(t *testing.T) {
	const hooks = `
setup:
  - {name: a, command: [sh, -c, "echo a >> $MESHTEST_OUT/trace"]}
  - {name: b, job: job.yaml}
  - {name: c, command: [sh, -c, "echo c >> $MESHTEST_OUT/trace"]}
teardown:
  - {name: d, command: [sh, -c, "echo d >> $MESHTEST_OUT/trace"]}
  - {name: e, job: job.yaml}
  - {name: f, command: [sh, -c, "echo f >> $MESHTEST_OUT/trace"]}
`
	in(t, func(t *testing.T, w *world) {
		w.runJob = func(objects []byte, log io.Writer) error {
			require.Equal(t, job, string(objects))
			_, err := io.WriteString(log, "at work\n")
			return err
		}
		o := w.perform(t.Context(), smoke+hooks)
		require.Equal(t, Passed, o.Verdict, o.Reason)
		trace, err := os.ReadFile(filepath.Join(o.out, "trace"))
		require.NoError(t, err)
		require.Equal(t, "a\nc\nd\nf\n", string(trace))
		log, err := os.ReadFile(filepath.Join(o.out, "logs", "setup-b.log"))
		require.NoError(t, err)
		require.Equal(t, "at work\n", string(log))
		var phases []string
		for _, p := range events[journal.Phase](t, o.states) {
			if p.State == journal.Begun {
				phases = append(phases, p.Name)
			}
		}
		require.Equal(t, []string{"setup: a", "environment", "setup: b", "setup: c", "load", "drain", "teardown: d", "teardown: e", "teardown", "teardown: f"}, phases)
	})
	in(t, func(t *testing.T, w *world) {
		w.runJob = func(_ []byte, log io.Writer) error {
			_, _ = io.WriteString(log, "no such table\n")
			return errors.New("the job failed: exit code 1")
		}
		o := w.perform(t.Context(), smoke+hooks)
		require.Equal(t, Invalid, o.Verdict)
		require.Equal(t, "setup: b: the job failed: exit code 1\n  | no such table", o.Reason)
		require.Equal(t, 1, w.downs)
	})
	in(t, func(t *testing.T, w *world) {
		o := w.perform(t.Context(), smoke+hooks)
		require.Equal(t, "setup: b: the environment local cannot run jobs", o.Reason)
	})
}

func TestACommandThatTakesTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t) // in real time: a process does not live in a bubble's
	o := w.perform(t.Context(), smoke+"setup: [{name: slow, command: [sleep, 60s], timeout: 50ms}]\n")
	require.Equal(t, Invalid, o.Verdict)
	require.Equal(t, "setup: slow: it took longer than 50ms", o.Reason)
}
