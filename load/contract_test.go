package load_test

import (
	"context"
	"testing"

	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/loadtest"
)

func TestRunContract(t *testing.T) {
	t.Parallel()
	loadtest.Runs(t, 0, func(_ *testing.T, dial load.DialFunc) loadtest.Runner {
		return func(ctx context.Context, s load.Stream, sink func(load.Record)) (*load.Result, error) {
			s.Dial = dial
			return load.Run(ctx, s, sink)
		}
	})
}
