package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"meshtest.dev/meshtest/analyzer/sequential"
)

const (
	errorAlpha   = sequential.DefaultAlpha * sequential.ErrorShare
	latencyAlpha = sequential.DefaultAlpha * sequential.LatencyShare
)

func must(err error) {
	if err != nil {
		panic(err) // a simulated block is always valid
	}
}

// hardDown is exact: how many failed canary requests decide when the baseline had y errors meanwhile.
func hardDown(t *table) {
	t.title("Every canary request fails: failed requests until rollback at alpha %v (exact)", errorAlpha)
	for _, w := range []float64{0.01, 0.05, 0.10, 0.25, 0.50} {
		t.row(fmt.Sprintf("weight %.0f %%", 100*w), "%d without a baseline error\t%d with one\t%d with two\tbar 4 up to 10 %%, 10 at 50 %%",
			failuresUntilRollback(w, 0), failuresUntilRollback(w, 1), failuresUntilRollback(w, 2))
	}
}

func failuresUntilRollback(w float64, baseline uint64) int {
	h := sequential.NewHarm(sequential.ErrorAlternatives())
	must(h.Add(sequential.Block{Share: w, Baseline: sequential.Arm{Requests: baseline, Events: baseline}}))
	for n := 1; ; n++ {
		must(h.Add(sequential.Block{Share: w, Canary: sequential.Arm{Requests: 1, Events: 1}}))
		if h.Rejects(errorAlpha) {
			return n
		}
	}
}

// errorPower looks after every request.
func errorPower(t *table) {
	t.title("Error rates, looking after every request: canary requests until rollback")
	for _, c := range []struct {
		p0, p1, w, alpha float64
		runs             int
		bar              string
	}{
		{0.001, 1, 0.10, errorAlpha, t.runs, "bar median 4"},
		{0.001, 1, 0.50, errorAlpha, t.runs, "bar 10"},
		{0.001, 0.1, 0.05, errorAlpha, t.runs, ""},
		{0.001, 0.01, 0.05, errorAlpha, t.runs, "bar mean 550"},
		{0.001, 0.01, 0.05, sequential.DefaultAlpha, t.runs, ""},
		{0.001, 0.01, 0.10, errorAlpha, t.runs, ""},
		{0.001, 0.01, 0.50, errorAlpha, t.runs, ""},
		{0.001, 0.005, 0.05, errorAlpha, t.runs / 5, ""},
		{0.001, 0.05, 0.05, errorAlpha, t.runs, ""},
	} {
		s := replicate(c.runs, t.seed, t.next(), func(r *rand.Rand) float64 { return untilRollback(r, c.p0, c.p1, c.w, c.alpha) })
		by := 0
		for _, n := range s {
			if n <= 1500 {
				by++
			}
		}
		name := fmt.Sprintf("%.1f %% -> %.1f %% at weight %.0f %%, alpha %v", 100*c.p0, 100*c.p1, 100*c.w, c.alpha)
		t.took(name, summarise(s), fmt.Sprintf("%.4f by 1,500\t%s", float64(by)/float64(len(s)), c.bar))
	}
}

func untilRollback(r *rand.Rand, p0, p1, w, alpha float64) float64 {
	h := sequential.NewHarm(sequential.ErrorAlternatives())
	b := sequential.Block{Share: w}
	for range 3_000_000 {
		arm, p := &b.Baseline, p0
		if r.Float64() < w {
			arm, p = &b.Canary, p1
		}
		arm.Requests++
		if r.Float64() >= p {
			continue // a request without the event pays 1: no need to look
		}
		arm.Events++
		must(h.Add(b))
		b = sequential.Block{Share: w}
		if h.Rejects(alpha) {
			return float64(h.Canary().Requests)
		}
	}
	return math.Inf(1)
}

func latencyPower(t *table) {
	t.title("Latency, log-normal, blocks of 20 requests, alpha %v for p50, p90 and p99: canary requests until rollback", latencyAlpha)
	for _, c := range []struct {
		name                   string
		sigma, factor, tail, w float64
		warm                   int
		bar                    string
	}{
		{"all +20 %, sigma 0.5, weight 5 %", 0.5, 1.2, 1, 0.05, 0, "bar mean 900, p95 2,000"},
		{"tail above p95 +20 %, sigma 0.5, weight 5 %", 0.5, 1, 1.2, 0.05, 0, "bar mean 900, p95 2,000"},
		{"the same after 2,000 baseline requests", 0.5, 1, 1.2, 0.05, 2000, "bar mean 900, p95 2,000"},
		{"all +20 %, sigma 1, weight 5 %", 1, 1.2, 1, 0.05, 0, ""},
		{"all x1.5, sigma 0.5, weight 5 %", 0.5, 1.5, 1, 0.05, 0, ""},
		{"all x1.5, sigma 0.5, weight 25 %", 0.5, 1.5, 1, 0.25, 0, "bar well under 300"},
		{"the same after 2,000 baseline requests", 0.5, 1.5, 1, 0.25, 2000, ""},
		{"all x1.5, sigma 0.5, weight 50 %", 0.5, 1.5, 1, 0.50, 0, ""},
	} {
		w := world{share: always(c.w), block: blocksOf(20), requests: 1_000_000}
		w.latency[0], w.latency[1] = logNormal(c.sigma, 1, 1), logNormal(c.sigma, c.factor, c.tail)
		s := replicate(t.runs/20, t.seed, t.next(), func(r *rand.Rand) float64 { return untilSlow(r, w, c.warm) })
		t.took(c.name, summarise(s), c.bar)
	}
}

func untilSlow(r *rand.Rand, w world, warm int) float64 {
	l := sequential.NewLatency(sequential.DefaultQuantiles(), 0)
	before := w
	before.share, before.requests = always(0.0), warm
	before.run(r, func(b block) bool { must(l.Add(b.latency)); return false })
	var canary uint64
	took := math.Inf(1)
	w.run(r, func(b block) bool {
		canary += b.latency.Canary.Count()
		must(l.Add(b.latency))
		if l.Rejects(latencyAlpha) {
			took = float64(canary)
		}
		return !math.IsInf(took, 1)
	})
	return took
}

// ramp is a roll-out of n requests: a tenth at 5 %, then 25 %, then 50 %.
func ramp(n int) func(int) float64 {
	return func(i int) float64 {
		switch {
		case i < n/2:
			return 0.05
		case i < n*3/4:
			return 0.25
		default:
			return 0.50
		}
	}
}

const healthyRequests = 4000

// healthy are worlds in which both versions are the same.
func healthy() map[string]world {
	const n = healthyRequests
	same := func(share func(int) float64, rate func(int) float64, latency func(int, *rand.Rand) time.Duration, block func(*rand.Rand) int) world {
		w := world{share: share, block: block, requests: n}
		w.rate = [2]func(int) float64{rate, rate}
		w.latency = [2]func(int, *rand.Rand) time.Duration{latency, latency}
		return w
	}
	steady := logNormal(0.5, 1, 1)
	bursty := func(r *rand.Rand) int { return 1 + int(math.Exp(r.Float64()*6)) } // 2 to 404, log-uniform
	wave := func(i int) float64 { return 0.01 * (1 + math.Sin(float64(i)/300)) }
	coupled := func(i int) float64 { return 0.002 + 0.05*ramp(n)(i) } // the rate grows with the weight
	drifting := func(i int, r *rand.Rand) time.Duration {
		return time.Duration(float64(steady(i, r)) * (1 + float64(i)/n))
	}
	stepping := func(i int, r *rand.Rand) time.Duration {
		return time.Duration(float64(steady(i, r)) * (1 + ramp(n)(i)))
	}
	return map[string]world{
		"1 constant, weight 5 %":                       same(always(0.05), always(0.01), steady, blocksOf(25)),
		"2 constant, weight 50 %, 0.1 % errors":        same(always(0.5), always(0.001), steady, blocksOf(25)),
		"3 weights 5, 25, 50 %":                        same(ramp(n), always(0.01), steady, blocksOf(25)),
		"4 rates and latency vary with time":           same(ramp(n), wave, drifting, blocksOf(25)),
		"5 both grow with the weight":                  same(ramp(n), coupled, stepping, blocksOf(25)),
		"6 blocks of 2 to 404 requests":                same(ramp(n), always(0.01), steady, bursty),
		"7 30 % errors (a fault hits both), sigma 1.5": same(ramp(n), always(0.3), logNormal(1.5, 1, 1), blocksOf(25)),
	}
}

func falseRollbacks(t *table) {
	t.title("Healthy canaries, %d requests, a look after every block: rolled back", healthyRequests)
	worlds := healthy()
	for _, name := range sortedKeys(worlds) {
		for _, given := range []bool{false, true} {
			label := name
			if given {
				label += ", counts given"
			}
			if given && !strings.HasPrefix(name, "5") && !strings.HasPrefix(name, "6") {
				continue // the two that could hurt most
			}
			s := replicate(t.runs, t.seed, t.next(), func(r *rand.Rand) [2]bool { return rolledBack(r, worlds[name], given) })
			var errors, latency, any int
			for _, x := range s {
				errors, latency, any = errors+one(x[0]), latency+one(x[1]), any+one(x[0] || x[1])
			}
			t.rate(label+": any", any, len(s), sequential.DefaultAlpha)
			t.rate("    by errors", errors, len(s), errorAlpha)
			t.rate("    by latency", latency, len(s), latencyAlpha)
		}
	}
}

// rolledBack says which test rejected: errors, latency. With given counts the tests are not told the weight.
func rolledBack(r *rand.Rand, w world, given bool) [2]bool {
	h := sequential.NewHarm(sequential.ErrorAlternatives())
	l := sequential.NewLatency(sequential.DefaultQuantiles(), 0)
	w.run(r, func(b block) bool {
		if given {
			b.errors.Share, b.latency.Share = 0, 0
		}
		must(h.Add(b.errors))
		must(l.Add(b.latency))
		return false
	})
	return [2]bool{h.Rejects(errorAlpha), l.Rejects(latencyAlpha)}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
