package analyzer

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/hist"
	"meshtest.dev/meshtest/mesh"
)

// world makes evidence of a judged edge: two versions with their own rates of failure and latencies.
type world struct {
	rand             *rand.Rand
	block            uint64
	baseline, canary version
}

type version struct {
	errors float64
	median time.Duration
	sigma  float64
}

func newWorld(seed uint64, baseline, canary version) *world {
	return &world{rand: rand.New(rand.NewPCG(seed, 1)), baseline: baseline, canary: canary}
}

// observe makes one block of n requests of which the split sends a share to the canary.
func (w *world) observe(n int, share float64, stratum, stream string) []Observation {
	w.block++
	arms := []*Observation{
		{Block: w.block, Stratum: stratum, Stream: stream, Arm: Baseline, Share: share, Latency: &hist.Histogram{}},
		{Block: w.block, Stratum: stratum, Stream: stream, Arm: Canary, Share: share, Latency: &hist.Histogram{}},
	}
	for range n {
		arm, v := arms[0], w.baseline
		if w.rand.Float64() < share {
			arm, v = arms[1], w.canary
		}
		arm.Requests++
		if w.rand.Float64() < v.errors {
			arm.Failed++
			continue
		}
		arm.Latency.Record(time.Duration(float64(v.median) * math.Exp(v.sigma*w.rand.NormFloat64())))
	}
	var out []Observation
	for _, arm := range arms {
		if arm.Requests > 0 {
			out = append(out, *arm)
		}
	}
	return out
}

var healthy = version{errors: 0.002, median: 5 * time.Millisecond, sigma: 0.4}

func newTestPanel(t *testing.T) *Panel {
	t.Helper()
	errors, err := NewErrorRate("request-success-rate", true, 0.005, 0.05, 0.02)
	require.NoError(t, err)
	duration, err := NewDuration("request-duration", true, 0.005, 0.05, Latencies{Quantiles: []float64{.5, .9, .99}, Tolerance: .1, Margin: .3, PromoteOn: .9})
	require.NoError(t, err)
	return &Panel{Judges: []Judge{errors, duration}}
}

// rollOut feeds the panel what the shipped canary scenarios see, until it is bad.
func rollOut(w *world, p *Panel) Judgement {
	for range 40 {
		p.Observe(w.observe(30, 0, "primary@0", "users"))
	}
	for _, step := range []struct {
		share  float64
		blocks int
	}{{.05, 50}, {.25, 60}, {.5, 60}} {
		for range step.blocks {
			p.Observe(w.observe(30, step.share, "primary", "users"))
			if j := p.Judgement(); j.Verdict == Bad {
				return j
			}
		}
	}
	return p.Judgement()
}

func TestAHealthyCanaryIsGoodAndABadOneIsBad(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		canary version
		want   Verdict
		check  string
	}{
		{"as good as stable", healthy, Good, ""},
		{"5 % errors", version{errors: 0.05, median: healthy.median, sigma: healthy.sigma}, Bad, "request-success-rate"},
		{"a little slower, within the tolerance", version{errors: healthy.errors, median: healthy.median * 108 / 100, sigma: healthy.sigma}, Good, ""},
		{"half as slow again", version{errors: healthy.errors, median: healthy.median * 3 / 2, sigma: healthy.sigma}, Bad, "request-duration"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(20) {
				j := rollOut(newWorld(seed, healthy, tt.canary), newTestPanel(t))
				require.Equal(t, tt.want, j.Verdict, "seed %d: %s", seed, j.Reason)
				require.True(t, strings.HasPrefix(j.Reason, tt.check), j.Reason)
			}
		})
	}
}

func TestACanaryThatFailsEverythingIsBadAfterAFewFailures(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		share float64
		most  uint64
	}{{.01, 4}, {.05, 4}, {.1, 4}, {.5, 10}} {
		p := newTestPanel(t)
		for failed := uint64(1); ; failed++ {
			p.Observe([]Observation{{Stratum: "s", Arm: Canary, Share: tt.share, Requests: 1, Failed: 1}})
			if p.Judgement().Verdict == Bad {
				break
			}
			require.Less(t, failed, tt.most, "share %v", tt.share)
		}
	}
}

func TestHeaderRouteIsComparedWithTheSameStreamOnStable(t *testing.T) {
	t.Parallel()
	p := newTestPanel(t)
	w := newWorld(1, version{median: 5 * time.Millisecond, sigma: .4}, version{})
	for range 40 {
		p.Observe(w.observe(3, 0, "primary@0", "testers"))
	}
	for failed := uint64(1); p.Judgement().Verdict != Bad; failed++ {
		require.LessOrEqual(t, failed, uint64(6))
		p.Observe([]Observation{{Stratum: "testers@1", Stream: "testers", Arm: Canary, Share: 1, Requests: 1, Failed: 1}})
	}
	// A stream that fails on stable just as often says nothing against the canary.
	p = newTestPanel(t)
	p.Observe([]Observation{{Stratum: "primary@0", Stream: "testers", Arm: Baseline, Requests: 100, Failed: 100}})
	p.Observe([]Observation{{Stratum: "testers@1", Stream: "testers", Arm: Canary, Share: 1, Requests: 50, Failed: 50}})
	require.NotEqual(t, Bad, p.Judgement().Verdict)
	// What a fault on the edge failed is not the canary's doing, and under any other fault the past is no measure.
	p = newTestPanel(t)
	p.Observe([]Observation{{Stratum: "primary@0", Stream: "testers", Arm: Baseline, Requests: 100}})
	p.Observe([]Observation{{Stratum: "testers@1", Stream: "testers", Arm: Canary, Share: 1, Requests: 50, Failed: 50, ByFault: 50}})
	p.Observe([]Observation{{Stratum: "testers@1", Stream: "testers", Arm: Canary, Share: 1, Requests: 50, Failed: 50, Disturbed: true}})
	require.NotEqual(t, Bad, p.Judgement().Verdict)
	// Without a history of the stream there is nothing to compare with.
	p = newTestPanel(t)
	p.Observe([]Observation{{Stratum: "testers@1", Stream: "strangers", Arm: Canary, Share: 1, Requests: 50, Failed: 50}})
	require.Equal(t, Undecided, p.Judgement().Verdict)
}

func TestNothingSeenIsNoData(t *testing.T) {
	t.Parallel()
	p := newTestPanel(t)
	require.Equal(t, NoData, p.Judgement().Verdict)
	p.Observe([]Observation{{Stratum: "s", Arm: Baseline, Share: .5, Requests: 1000}})
	j := p.Judgement()
	require.Equal(t, NoData, j.Verdict)
	require.Contains(t, j.Reason, "the canary has had no request")
}

func TestThePanelCombines(t *testing.T) {
	t.Parallel()
	check := func(v Verdict, critical bool) Check {
		return Check{Name: string(v), Verdict: v, Critical: critical, Reason: "r"}
	}
	tests := []struct {
		checks []Check
		want   Verdict
	}{
		{nil, NoData},
		{[]Check{check(Bad, false)}, NoData},
		{[]Check{check(Good, true), check(Bad, false)}, Good},
		{[]Check{check(Good, true), check(Bad, true)}, Bad},
		{[]Check{check(Undecided, true), check(Bad, true)}, Bad},
		{[]Check{check(Good, true), check(Undecided, true)}, Undecided},
		{[]Check{check(Good, true), check(NoData, true)}, Undecided},
		{[]Check{check(NoData, true), check(NoData, true)}, NoData},
		{[]Check{check(Good, true), check(Good, true)}, Good},
	}
	for _, tt := range tests {
		got, reason := combine(tt.checks)
		require.Equal(t, tt.want, got, "%v", tt.checks)
		require.NotEmpty(t, reason)
	}
}

func TestEdgeTakesOnlyItsOwnCells(t *testing.T) {
	t.Parallel()
	judged := mesh.Edge{From: "frontend", To: "middleware"}
	e := Edge{Edge: judged, Stable: "prod", Canary: "canary", Unit: Requests, Routes: []string{"primary", "testers"}}
	var h hist.Histogram
	h.Record(time.Millisecond)
	observed, err := e.Observe(mesh.EvidenceBlock{Cells: []mesh.EvidenceCell{
		{Edge: judged, Route: "primary", Version: "prod", Share: .95, Requests: 19, Failed: 1, Attempts: 21, AttemptsKO: 3, Latency: h.AppendSparse(nil)},
		{Edge: judged, Route: "primary", Version: "canary", Share: .05, Requests: 1},
		{Edge: judged, Route: "testers", Version: "canary", Share: 1, Requests: 2, Stream: "testers"},
		{Edge: judged, Route: "primary", Version: "other", Requests: 7},
		{Edge: judged, Route: "somebody else's", Version: "prod", Share: 1, Requests: 7},
		{Edge: mesh.Edge{From: "edge", To: "frontend"}, Version: "prod", Requests: 7},
	}}, time.Second)
	require.NoError(t, err)
	require.Len(t, observed, 3)
	require.Equal(t, observed[0].Stratum, observed[1].Stratum, "both arms of a split are one stratum")
	require.InDelta(t, .05, observed[0].Share, 1e-12)
	require.Equal(t, uint64(1), observed[0].Latency.Count())
	require.Equal(t, Canary, observed[2].Arm)
	require.Equal(t, 1.0, observed[2].Share)

	e.Unit = Attempts
	observed, err = e.Observe(mesh.EvidenceBlock{Cells: []mesh.EvidenceCell{{Edge: judged, Route: "primary", Version: "prod", Requests: 19, Attempts: 21, AttemptsKO: 3}}}, 0)
	require.NoError(t, err)
	require.Equal(t, uint64(21), observed[0].Requests)
	require.Equal(t, uint64(3), observed[0].Failed)

	_, err = e.Observe(mesh.EvidenceBlock{Cells: []mesh.EvidenceCell{{Edge: judged, Route: "primary", Version: "prod", Latency: []uint64{1}}}}, 0)
	require.Error(t, err)
}

func TestQueryCountsFailures(t *testing.T) {
	t.Parallel()
	newQuery := func(limit int, onNoData OnNoData) *Query {
		return &Query{
			Name: "q", Critical: true, Condition: "result < 5", FailureLimit: limit, OnNoData: onNoData,
			Holds: func(result float64) (bool, error) { return result < 5, nil },
		}
	}
	q := newQuery(1, Inconclusive)
	require.Equal(t, NoData, q.Check().Verdict)
	q.Take(1, true, nil)
	require.Equal(t, Good, q.Check().Verdict)
	q.Take(9, true, nil)
	require.Equal(t, Good, q.Check().Verdict, "one failure is tolerated")
	q.Take(9, true, nil)
	require.Equal(t, Bad, q.Check().Verdict)
	for onNoData, want := range map[OnNoData]Verdict{Inconclusive: NoData, Fail: Bad, Pass: Good} {
		q := newQuery(0, onNoData)
		q.Take(0, false, nil)
		require.Equal(t, want, q.Check().Verdict, onNoData)
	}
}

func TestLimitsCompareWithAFixedValue(t *testing.T) {
	t.Parallel()
	limit, err := NewErrorLimit("l", true, .01, .05, .01)
	require.NoError(t, err)
	require.Equal(t, NoData, limit.Check().Verdict)
	limit.Observe([]Observation{{Arm: Canary, Requests: 3}})
	require.Equal(t, Undecided, limit.Check().Verdict)
	limit.Observe([]Observation{{Arm: Canary, Requests: 2000, Failed: 2}})
	require.Equal(t, Good, limit.Check().Verdict)

	limit.Observe([]Observation{{Arm: Canary, Requests: 500, Failed: 23}})
	require.NotEqual(t, Good, limit.Check().Verdict, "what was good can stop being so")

	limit, err = NewErrorLimit("l", true, .01, .05, .01)
	require.NoError(t, err)
	limit.Observe([]Observation{{Arm: Canary, Requests: 200, Failed: 20}, {Arm: Baseline, Requests: 10, Failed: 10}})
	require.Equal(t, Bad, limit.Check().Verdict)
	require.Equal(t, uint64(200), limit.Check().Samples)

	slow, err := NewDurationLimit("d", true, .01, .05, .9, 10*time.Millisecond)
	require.NoError(t, err)
	w := newWorld(3, healthy, version{median: 12 * time.Millisecond, sigma: .2})
	for range 20 {
		slow.Observe(w.observe(30, .5, "s", ""))
	}
	require.Equal(t, Bad, slow.Check().Verdict)
	_, err = NewErrorLimit("l", true, .01, .05, 0)
	require.Error(t, err)
}

// A limit that is tested at every look must not be wrong more often than alpha.
func TestABoundKeepsItsAlpha(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	const runs, alpha = 2000, .05
	wrong := 0
	for range runs {
		b := bound{limit: .1}
		for range 50 {
			events := uint64(0)
			for range 10 {
				if r.Float64() < .1 {
					events++
				}
			}
			b.add(10, events)
		}
		if b.maxAbove >= -math.Log(alpha) {
			wrong++
		}
	}
	require.LessOrEqual(t, float64(wrong)/runs, alpha)
}
