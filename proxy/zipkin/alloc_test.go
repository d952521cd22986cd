package zipkin_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/zipkin"
)

// value reads one series out of the counters; 0 when there is none.
func value(t testing.TB, c *telemetry.Counters, series string) float64 {
	t.Helper()
	for line := range strings.Lines(string(c.AppendText(nil))) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == telemetry.Prefix+series {
			v, err := strconv.ParseFloat(text, 64)
			require.NoError(t, err)
			return v
		}
	}
	return 0
}

func TestRecordingAllocatesNothing(t *testing.T) {
	x, err := zipkin.New(zipkin.Options{URL: "http://127.0.0.1:1", Queue: 1 << 20})
	require.NoError(t, err)
	s := full()
	for range 3000 { // memory grows by doubling: beyond this there is room for those that follow
		x.Record(&s)
	}
	require.Zero(t, testing.AllocsPerRun(300, func() { x.Record(&s) }))
}
