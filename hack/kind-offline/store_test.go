package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func openTestStore(t *testing.T) *store {
	t.Helper()
	s, err := openStore(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// maker counts how often a part is made, and makes a folder with one file.
type maker struct{ times int }

func (m *maker) make(_ context.Context, folder string) error {
	m.times++
	return os.WriteFile(filepath.Join(folder, "file"), []byte("content"), 0o600)
}

func TestAPartIsMadeOncePerInputs(t *testing.T) {
	t.Parallel()
	s, m := openTestStore(t), &maker{}
	one, err := s.part(t.Context(), "thing", m.make, "a", 1)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(one, "file"))
	again, err := s.part(t.Context(), "thing", m.make, "a", 1)
	require.NoError(t, err)
	require.Equal(t, one, again)
	require.Equal(t, 1, m.times)

	longer, err := s.part(t.Context(), "thing-of-another-name", m.make, "a", 1)
	require.NoError(t, err)
	other, err := s.part(t.Context(), "thing", m.make, "a", 2)
	require.NoError(t, err)
	require.NotEqual(t, one, other)
	require.Equal(t, 3, m.times)
	require.NoDirExists(t, one, "older makes of a part go")
	require.DirExists(t, longer, "other parts stay")
}

func TestAPartThatWasNotFinishedIsMadeAgain(t *testing.T) {
	t.Parallel()
	s, m := openTestStore(t), &maker{}
	_, err := s.part(t.Context(), "thing", func(_ context.Context, folder string) error {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "half"), nil, 0o600))
		return errors.New("no space left")
	}, "a")
	require.EqualError(t, err, "making thing: no space left")

	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.part(ctx, "thing", func(ctx context.Context, _ string) error { cancel(); return ctx.Err() }, "a")
	require.ErrorContains(t, err, "interrupted; the next run goes on from here")

	folder, err := s.part(t.Context(), "thing", m.make, "a")
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(folder, "half"))
	require.Equal(t, 1, m.times)
}

func TestAFailedCommandIsQuoted(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	_, err := command{name: "sh", arguments: []string{"-c", "echo out; echo 'no such mirror' >&2; exit 3"}, log: log}.run(t.Context())
	require.ErrorContains(t, err, "sh -c: exit status 3 (all of it: "+log+")\n")
	require.ErrorContains(t, err, "no such mirror")
	written, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Contains(t, string(written), "out\n")
	require.Contains(t, string(written), "no such mirror\n")

	_, err = command{name: "no-such-program"}.run(t.Context())
	require.ErrorContains(t, err, "no-such-program")
	out, err := command{name: "sh", arguments: []string{"-c", "cat; echo aside >&2"}, folder: "/"}.run(t.Context())
	require.NoError(t, err)
	require.Empty(t, out)
}
