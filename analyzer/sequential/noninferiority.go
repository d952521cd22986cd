package sequential

import (
	"fmt"
	"math"
)

// NonInferiority tests whether the canary's rate of events is at most the baseline's plus a margin, in absolute points. Null hypothesis: the
// degradation so far, the mean of p1-p0 over requests, is the margin or more. Each request weighs by w*(1-w), the chance that it tells
// something; these are the Mantel-Haenszel weights of a risk difference.
//
// A request of the canary gains (1-w)*(margin-(Y-g)) and one of the baseline w*(Y-g), where Y is 1 for an event and g a guess of the baseline's rate that
// was made earlier. With a design share w the expectation is w*(1-w)*(margin-(p1-p0)) whatever g is; with given counts and w = n1/(n1+n0) the
// block's sum has the same expectation. Type bets says why the mean wealth is then an e-process for the running mean.
//
// Rates and weights may change together in any way (no Simpson's paradox: each request is compared with its own moment). The failure mode is
// the mean itself: harm that begins late is diluted by the good requests before it. Accepts therefore looks at the evidence now, never at
// its maximum, and who wants the claim for one step only starts a new test there.
type NonInferiority struct {
	margin float64
	bets   bets
	guess  guess
	strata map[key]*counts
	order  []key // of first appearance, so that sums always run the same way
}

// key is what the gains of a request depend on besides the request.
type key struct{ share, guess float64 }

type counts struct{ canary, baseline Arm }

// NewNonInferiority returns a test with the given margin, in (0, 1): 0.005 is half a percentage point.
func NewNonInferiority(margin float64) (*NonInferiority, error) {
	if !(margin > 0 && margin < 1) {
		return nil, fmt.Errorf("margin %v of a rate is not in (0, 1)", margin)
	}
	return &NonInferiority{margin: margin, strata: make(map[key]*counts)}, nil
}

// Add takes the next block. An error wraps ErrBlock.
func (t *NonInferiority) Add(b Block) error {
	if err := b.check(); err != nil {
		return err
	}
	k := key{b.Share, t.guess.rate}
	if k.share == 0 {
		k.share = b.realised()
	}
	t.settle(k, b)
	t.guess.learn(b.Baseline)
	return nil
}

func (t *NonInferiority) settle(k key, b Block) {
	c := t.strata[k]
	if c == nil {
		c = new(counts)
		t.strata[k] = c
		t.order = append(t.order, k)
	}
	c.canary, c.baseline = c.canary.plus(b.Canary), c.baseline.plus(b.Baseline)
	k.pay(&t.bets, t.margin, b.Canary, b.Baseline)
}

func (k key) pay(to *bets, margin float64, canary, baseline Arm) {
	to.pay(k.canaryGain(margin, 1), canary.Events)
	to.pay(k.canaryGain(margin, 0), canary.rest())
	to.pay(k.baselineGain(1), baseline.Events)
	to.pay(k.baselineGain(0), baseline.rest())
}

func (k key) canaryGain(margin, y float64) float64 { return (1 - k.share) * (margin - (y - k.guess)) }
func (k key) baselineGain(y float64) float64       { return k.share * (y - k.guess) }

// LogE returns the natural logarithm of the e-value against "worse by the margin or more", now.
func (t *NonInferiority) LogE() float64 { return t.bets.logE() }

// Accepts reports whether the evidence now shows, with error probability alpha over all looks, that the degradation so far is below the margin.
func (t *NonInferiority) Accepts(alpha float64) bool { return t.bets.accepts(alpha) }

// Degradation returns the Mantel-Haenszel estimate of p1-p0 in [-1, 1]; 0 before any stratum has requests of both versions.
func (t *NonInferiority) Degradation() float64 {
	var sum, weights float64
	for _, k := range t.order {
		c := t.strata[k]
		n1, n0 := float64(c.canary.Requests), float64(c.baseline.Requests)
		if n1 == 0 || n0 == 0 {
			continue
		}
		sum += (float64(c.canary.Events)*n0 - float64(c.baseline.Events)*n1) / (n1 + n0)
		weights += n1 * n0 / (n1 + n0)
	}
	if weights == 0 {
		return 0
	}
	return sum / weights
}

// UpperBound returns the smallest margin in [0, 1] that the evidence now would accept at alpha: with probability at least 1-alpha it is above a constant
// degradation at all looks. 1 means that nothing is known. When the degradation changes with time the bound is for display; the decision is Accepts.
func (t *NonInferiority) UpperBound(alpha float64) float64 {
	low, high := 0.0, 1.0
	if t.acceptsAt(low, alpha) {
		return low
	}
	for range 60 {
		mid := (low + high) / 2
		if t.acceptsAt(mid, alpha) {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}

// acceptsAt settles all requests again with another margin. Wealth grows with the margin.
func (t *NonInferiority) acceptsAt(margin, alpha float64) bool {
	var b bets
	for _, k := range t.order {
		c := t.strata[k]
		k.pay(&b, margin, c.canary, c.baseline)
	}
	return b.accepts(alpha)
}

// Forecast is about how much evidence is missing.
type Forecast struct {
	CanaryRequests uint64 // more of them; 0 when the test accepts
	Reachable      bool   // false when, at the assumed rates, no number of requests is enough
}

// Forecast says about how many more canary requests, at the given share, lead to acceptance if the canary and the baseline go on at the rates assumed. It lets every gambler's wealth grow by its expected logarithm:
// a typical number, with a chance of about one half to be enough, not a promise.
func (t *NonInferiority) Forecast(alpha, share, canaryRate, baselineRate float64) Forecast {
	if t.Accepts(alpha) {
		return Forecast{Reachable: true}
	}
	if !(share > 0 && share < 1 && canaryRate >= 0 && canaryRate <= 1 && baselineRate >= 0 && baselineRate <= 1) {
		return Forecast{}
	}
	k := key{share, baselineRate}
	perBaseline := (1 - share) / share
	return forecast(t.bets.requests(alpha, []outcome{
		{k.canaryGain(t.margin, 1), canaryRate},
		{k.canaryGain(t.margin, 0), 1 - canaryRate},
		{k.baselineGain(1), perBaseline * baselineRate},
		{k.baselineGain(0), perBaseline * (1 - baselineRate)},
	}))
}

func forecast(requests float64, reachable bool) Forecast {
	if !reachable {
		return Forecast{}
	}
	return Forecast{CanaryRequests: uint64(math.Ceil(max(requests, 1))), Reachable: true}
}

// Rates returns estimates of both rates that a Forecast can assume: (events+1/2)/(requests+1), the mean under Jeffreys' prior, so that no events among few
// requests are not taken for a rate of zero. With fewer than 1/margin canary requests the canary is assumed to be as good as the baseline.
func (t *NonInferiority) Rates() (canary, baseline float64) {
	var all counts
	for _, c := range t.strata {
		all.canary, all.baseline = all.canary.plus(c.canary), all.baseline.plus(c.baseline)
	}
	canary, baseline = jeffreys(all.canary), jeffreys(all.baseline)
	if float64(all.canary.Requests) < 1/t.margin {
		canary = jeffreys(all.canary.plus(all.baseline))
	}
	return canary, baseline
}

func jeffreys(a Arm) float64 { return (float64(a.Events) + 0.5) / (float64(a.Requests) + 1) }

// guess is a predictable estimate of the baseline's rate: made after 200 requests, and again from the next 400, 800 and so on. Before the
// first it is 0, which is good for rare events.
type guess struct {
	rate   float64
	past   Arm
	wanted uint64
}

func (g *guess) learn(baseline Arm) {
	g.past = g.past.plus(baseline)
	if g.wanted == 0 {
		g.wanted = MinBaselineMedian
	}
	if n := g.past.Requests; n >= g.wanted {
		g.rate = float64(g.past.Events) / float64(n)
		g.wanted, g.past = 2*n, Arm{}
	}
}
