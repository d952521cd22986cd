package sequential_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer/sequential"
)

// TestHealthyCanariesStay is the small form of bench/calibrate: 2,000 healthy roll-outs at weights 5, 25, 50 %, with error rates and latencies that change with
// time and with the weight, and blocks of any size. At 1 % there may be 35 (the 99.9 % point of the binomial is 35).
func TestHealthyCanariesStay(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("simulates")
	}
	const runs = 2000
	rolledBack, accepted := 0, 0
	for i := range runs {
		r := rand.New(rand.NewPCG(40, uint64(i)))
		harm, latency := sequential.NewHarm(sequential.ErrorAlternatives()), newLatency()
		accept, err := sequential.NewNonInferiority(0.02)
		require.NoError(t, err)
		falselyAccepted := false
		for step, share := range []float64{0.05, 0.25, 0.5} {
			for block := range 10 {
				n := 1 + int(math.Exp(5*r.Float64()))
				rate := 0.02 * float64(1+step) * (1 + math.Sin(float64(block)))
				require.NoError(t, harm.Add(randomBlock(r, share, n, rate, rate)))
				require.NoError(t, accept.Add(randomBlock(r, share, n, rate, rate+0.02)))
				require.NoError(t, latency.Add(logNormals(r, share, n, 0.5, 1, 1+rate)))
				falselyAccepted = falselyAccepted || accept.Accepts(sequential.DefaultAcceptAlpha)
			}
		}
		if harm.Rejects(errorAlpha) || latency.Rejects(latencyAlpha) {
			rolledBack++
		}
		if falselyAccepted {
			accepted++
		}
	}
	require.LessOrEqual(t, rolledBack, 35, "of %d", runs)
	require.LessOrEqual(t, accepted, 131, "of %d, the 99.9 %% point at 5 %%", runs)
}
