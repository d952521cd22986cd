package load_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/loadtest"
)

// A memoryServer is an HTTP server without a network.
type memoryServer struct{ dial load.DialFunc }

func serve(t *testing.T, h http.HandlerFunc) memoryServer {
	t.Helper()
	return memoryServer{loadtest.Serve(t, h)}
}

func constant(t *testing.T, rate float64) load.Curve {
	t.Helper()
	c, err := load.Constant(rate)
	require.NoError(t, err)
	return c
}

// collect returns a sink and the records that it got; they may be read when Run has returned.
func collect() (sink func(load.Record), records *[]load.Record) {
	records = new([]load.Record)
	return func(r load.Record) { *records = append(*records, r) }, records
}
