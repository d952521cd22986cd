package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
)

// What flags say is in the range that they have, and their mistakes are not lost in the usage.
func TestAloneRefusesWrongFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ flag, value, want string }{
		{"--drain", "-1s", "--drain is less than nothing"},
		{"--drain", "5", "missing unit"},
		{"--log-level", "loud", "it is debug, info, warn or error"},
		{"--trace-share", "2", "--trace-share goes from 0 to 1"},
		{"--trace-share", "-0.1", "--trace-share goes from 0 to 1"},
		{"--trace-share", "NaN", "--trace-share goes from 0 to 1"},
	} {
		_, goOn, err := parseStandalone([]string{"-f", "x", "--listen", testport.Loopback(t), test.flag, test.value}, nil)
		require.False(t, goOn, test)
		require.ErrorContains(t, err, test.want)
		var stdout, stderr bytes.Buffer
		require.Equal(t, 2, command(t.Context(), []string{"-f", "x", "--check", test.flag, test.value}, &stdout, &stderr))
		require.Contains(t, stderr.String(), test.want)
		require.Equal(t, 2, strings.Count(stderr.String(), "\n"), stderr.String())
	}
	o, goOn, err := parseStandalone([]string{"-f", "x", "--check", "--drain", "0s"}, nil)
	require.NoError(t, err)
	require.True(t, goOn)
	require.Positive(t, o.drainTime())
	require.Less(t, o.drainTime().Milliseconds(), int64(1), "at once, and not the default")
}

// Whoever asks for a complete access log hears of the counter that says whether it is, by the name under which it is told.
func TestAloneSaysThatAccessLogsDropLines(t *testing.T) {
	t.Parallel()
	const counter = `meshtest_sidecar_access_log_dropped_total{reason="queue"}`
	var stdout, stderr bytes.Buffer
	require.Equal(t, 0, command(t.Context(), []string{"--help"}, &stdout, &stderr))
	require.Contains(t, stdout.String(), counter)
	a := newAlone(t, backends(toVersion("v1"), saying(t, "v1")), "--access-log", "complete")
	a.tells(counter + " 0\n")
}
