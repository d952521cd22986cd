package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"meshtest.dev/meshtest/control/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// descriptor returns a descriptor that the command may close, from which the document is read.
func descriptor(t *testing.T, document string) string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	_, err = w.WriteString(document)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	fd, err := unix.Dup(int(r.Fd()))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return strconv.Itoa(fd)
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"--help"}, 0, "Usage:", ""},
		{[]string{"version"}, 0, "protocol " + wire.Version, ""},
		{[]string{"--version"}, 0, "meshtest-control ", ""},
		{nil, 2, "", "--bootstrap-fd is missing, or --kubernetes"},
		{[]string{"--bootstrap-fd", "3", "x"}, 2, "", `unexpected argument "x"`},
		{[]string{"--token", "secret"}, 2, "", "not defined: -token"},
		{[]string{"--kubernetes", "--bootstrap-fd", "3"}, 2, "", "exclude each other"},
		{[]string{"--kubernetes", "--sidecar-image", "s"}, 2, "", "--namespace is missing"},
		{[]string{"--kubernetes", "--namespace", "a"}, 2, "", "--sidecar-image is missing"},
		{[]string{"--kubernetes", "--namespace", "a=b=c"}, 2, "", `"b=c" is no name of a namespace`},
		{[]string{"--kubernetes", "--namespace", "a", "--namespace", "a=b"}, 2, "", "a is there already"},
		{[]string{"--kubernetes", "--log-level", "LOUD"}, 2, "", "LOUD"},
		{[]string{"--kubernetes", "--namespace", "a", "--sidecar-image", "s"}, 1, "", "POD_NAME and POD_NAMESPACE"},
		{[]string{"--bootstrap-fd", descriptor(t, `{"socket": "x", "hello": 1}`)}, 1, "", `"hello"`},
		{[]string{"--bootstrap-fd", descriptor(t, `{"socket": "x"}`)}, 1, "", "must not be empty"},
		{[]string{"--bootstrap-fd", descriptor(t, ``)}, 1, "", "reading the bootstrap"},
		{[]string{"--bootstrap-fd", descriptor(t, `{"socket": "/nowhere/s", "ownerToken": "t", "instanceKey": "k"}`)}, 1, "", "/nowhere/s"},
	} {
		var stdout, stderr bytes.Buffer
		code := command(t.Context(), test.args, &stdout, &stderr)
		require.Equal(t, test.code, code, "%v: %s", test.args, stderr.String())
		require.Contains(t, stdout.String(), test.stdout, test.args)
		require.Contains(t, stderr.String(), test.stderr, test.args)
	}
}

func TestServesUntilItIsStopped(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "control")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	document := fmt.Sprintf(`{"socket": %q, "ownerToken": "t", "instanceKey": "k", "epoch": 7, "logLevel": "INFO"}`, socket)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int, 1)
	var stderr bytes.Buffer
	go func() { done <- command(ctx, []string{"--bootstrap-fd", descriptor(t, document)}, os.Stdout, &stderr) }()

	owner, err := wire.NewConfiguration(wire.Unix(socket), "t")
	require.NoError(t, err)
	applied, err := owner.Apply(t.Context(), wire.Change{Whole: true})
	require.NoError(t, err)
	require.EqualValues(t, 7, applied.Generation.Epoch)
	require.NoError(t, owner.Close())
	stop()
	require.Zero(t, <-done, stderr.String())
	var line struct{ Msg, Socket string }
	require.NoError(t, json.NewDecoder(&stderr).Decode(&line))
	require.Equal(t, "serving", line.Msg)
	require.NoFileExists(t, socket)
}
