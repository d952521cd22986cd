package proxy

import (
	"io"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

// The log tells why there is no connection, which an answer's reason is too short for: at the level debug, because the metrics and the access log count it.
func TestTheLogTellsWhyThereIsNoConnection(t *testing.T) {
	t.Parallel()
	read, write := io.Pipe()
	r := newRig(t, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(write, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	nobody := testport.Refusing(t)
	at := r.outbound(r.service("dead", mesh.HTTP, map[string][]string{"v1": {nobody}}), mesh.HTTP)
	r.apply()
	said := make(chan string, 1) // of what is said again, nothing is kept
	go func() {
		line := make([]byte, 4096)
		n, _ := read.Read(line)
		said <- string(line[:n])
		_, _ = io.Copy(io.Discard, read)
	}()
	resp, _ := call(t, at).get("/")
	require.Equal(t, ReasonConnectFailure, resp.Header.Get(mesh.HeaderReason))
	line := <-said
	require.Contains(t, line, "endpoint="+nobody)
	require.Contains(t, line, "connection refused")
	require.NoError(t, write.Close())
}
