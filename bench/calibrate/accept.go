package main

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func acceptPower(t *table) {
	t.title("Accepting error rates, blocks of 20 requests: canary requests until acceptance")
	for _, c := range []struct{ p0, p1, margin, w, alpha float64 }{
		{0.001, 0.001, 0.01, 0.05, 0.05},
		{0.001, 0.001, 0.01, 0.05, 0.01},
		{0.001, 0.001, 0.01, 0.25, 0.05},
		{0.001, 0.001, 0.01, 0.50, 0.05},
		{0.001, 0.001, 0.005, 0.25, 0.05},
		{0.01, 0.01, 0.01, 0.25, 0.05},
		{0.01, 0.01, 0.05, 0.25, 0.05},
		{0.3, 0.3, 0.05, 0.25, 0.05},
	} {
		w := world{share: always(c.w), block: blocksOf(20), requests: 1_000_000}
		w.rate = [2]func(int) float64{always(c.p0), always(c.p1)}
		s := replicate(t.runs/10, t.seed, t.next(), func(r *rand.Rand) float64 { return untilAccepted(r, w, c.margin, c.alpha) })
		fresh, err := sequential.NewNonInferiority(c.margin)
		must(err)
		name := fmt.Sprintf("%.1f %% and %.1f %%, margin %.1f points, weight %.0f %%, alpha %v", 100*c.p0, 100*c.p1, 100*c.margin, 100*c.w, c.alpha)
		t.took(name, summarise(s), fmt.Sprintf("forecast at the start %d", fresh.Forecast(c.alpha, c.w, c.p1, c.p0).CanaryRequests))
	}
}

func untilAccepted(r *rand.Rand, w world, margin, alpha float64) float64 {
	test, err := sequential.NewNonInferiority(margin)
	must(err)
	var canary uint64
	took := math.Inf(1)
	w.run(r, func(b block) bool {
		canary += b.errors.Canary.Requests
		must(test.Add(b.errors))
		if test.Accepts(alpha) {
			took = float64(canary)
		}
		return !math.IsInf(took, 1)
	})
	return took
}

// enough is the experiment of a short canary: about 1,500 canary and 5,000 baseline requests.
func enough(factor float64) world {
	w := world{share: always(1500.0 / 6500), block: blocksOf(25), requests: 6500}
	w.latency = [2]func(int, *rand.Rand) time.Duration{logNormal(0.5, 1, 1), logNormal(0.5, factor, 1)}
	return w
}

func latencyAcceptPower(t *table) {
	t.title("Accepting latency, log-normal sigma 0.5, the same on both sides, 1,500 canary and 5,000 baseline requests in all: share accepted")
	for _, q := range []float64{0.5, 0.9, 0.99} {
		for _, margin := range []float64{0.10, 0.25, 0.50} {
			s := replicate(t.runs/20, t.seed, t.next(), func(r *rand.Rand) [2]float64 {
				var at [2]float64
				for i, took := range untilFast(r, enough(1), q, margin, []float64{0.05, 0.01}) {
					at[i] = took
				}
				return at
			})
			var a, b []float64
			for _, x := range s {
				a, b = append(a, x[0]), append(b, x[1])
			}
			five, one := summarise(a), summarise(b)
			t.row(fmt.Sprintf("p%.0f, margin %.0f %%", 100*q, 100*margin), "alpha 0.05: %.3f, median after %.0f\talpha 0.01: %.3f, median after %.0f",
				five.power, five.median, one.power, one.median)
		}
	}
}

// untilFast returns, per alpha, after how many canary requests the test accepted.
func untilFast(r *rand.Rand, w world, q, margin float64, alphas []float64) []float64 {
	test, err := sequential.NewLatencyNonInferiority(q, margin)
	must(err)
	took := make([]float64, len(alphas))
	for i := range took {
		took[i] = math.Inf(1)
	}
	var canary uint64
	w.run(r, func(b block) bool {
		canary += b.latency.Canary.Count()
		must(test.Add(b.latency))
		for i, alpha := range alphas {
			if test.Accepts(alpha) {
				took[i] = min(took[i], float64(canary))
			}
		}
		return false
	})
	return took
}

// falseAccepts are canaries that are worse by exactly the margin.
func falseAccepts(t *table) {
	const alpha, margin, n = sequential.DefaultAcceptAlpha, 0.02, 6000
	t.title("Canaries worse by exactly the margin, 6,000 requests: accepted at some look, alpha %v", alpha)
	runs := t.runs / 5 // 5 % needs fewer than 0.5 %
	wave := func(i int) float64 { return 0.01 * (1 + math.Sin(float64(i)/300)) }
	coupled := func(i int) float64 { return 0.002 + 0.2*ramp(n)(i) }
	rates := map[string]func(int) float64{"errors 1 %": always(0.01), "errors vary with time": wave, "errors grow with the weight": coupled}
	for _, name := range sortedKeys(rates) {
		p := rates[name]
		for _, given := range []bool{false, true} {
			w := world{share: ramp(n), block: blocksOf(25), requests: n}
			w.rate = [2]func(int) float64{p, func(i int) float64 { return p(i) + margin }}
			label := name
			if given {
				label += ", counts given"
			}
			t.rate(label, t.count(runs, func(r *rand.Rand) bool { return everAccepts(r, w, margin, alpha, given) }), runs, alpha)
		}
	}
	for _, q := range []float64{0.5, 0.9, 0.99} {
		for _, m := range []float64{0.10, 0.50} {
			w := enough(1 + m)
			wrong := t.count(runs, func(r *rand.Rand) bool { return !math.IsInf(untilFast(r, w, q, m, []float64{alpha})[0], 1) })
			t.rate(fmt.Sprintf("latency p%.0f, margin %.0f %%", 100*q, 100*m), wrong, runs, alpha)
		}
	}
}

// count says how many of n simulations ended with yes.
func (t *table) count(n int, sim func(*rand.Rand) bool) int {
	sum := 0
	for _, yes := range replicate(n, t.seed, t.next(), sim) {
		sum += one(yes)
	}
	return sum
}

func everAccepts(r *rand.Rand, w world, margin, alpha float64, given bool) bool {
	test, err := sequential.NewNonInferiority(margin)
	must(err)
	accepted := false
	w.run(r, func(b block) bool {
		if given {
			b.errors.Share = 0
		}
		must(test.Add(b.errors))
		accepted = accepted || test.Accepts(alpha)
		return accepted
	})
	return accepted
}

func splits(t *table) {
	t.title("Split checks at alpha %v, looking every 10 requests: requests until alarm", sequential.SplitAlpha)
	for _, c := range []struct{ want, is float64 }{{0.05, 0.06}, {0.05, 0.10}, {0.50, 0.52}, {0.25, 0}, {0.25, 1}} {
		s := replicate(t.runs/10, t.seed, t.next(), func(r *rand.Rand) float64 { return untilAlarm(r, c.want, c.is, 1_000_000) })
		t.took(fmt.Sprintf("configured %.0f %%, real %.0f %%", 100*c.want, 100*c.is), summarise(s), "")
	}
	for _, w := range []float64{0.05, 0.5} {
		wrong := t.count(t.runs, func(r *rand.Rand) bool { return !math.IsInf(untilAlarm(r, w, w, 6000), 1) })
		t.rate(fmt.Sprintf("right split %.0f %%, 6,000 requests: alarms", 100*w), wrong, t.runs, sequential.SplitAlpha)
	}
}

func untilAlarm(r *rand.Rand, want, is float64, limit int) float64 {
	s := sequential.NewSplit()
	for n := 10; n <= limit; n += 10 {
		var got [2]uint64
		for range 10 {
			got[one(r.Float64() < is)]++
		}
		must(s.Add([]float64{1 - want, want}, got[:]))
		if s.Rejects(sequential.SplitAlpha) {
			return float64(n)
		}
	}
	return math.Inf(1)
}
