package sequential

import (
	"fmt"
	"time"

	"meshtest.dev/meshtest/internal/hist"
)

// MinLatencyMargin is the smallest margin of a LatencyNonInferiority test: two widths of a bucket, below which nothing could ever be accepted.
const MinLatencyMargin = 2 * hist.RelativeWidth

// LatencyNonInferiority tests whether the canary's q-quantile is less than (1+margin) times the baseline's.
//
// Let t <= u be the ends of the bucket that held the baseline's q-quantile in past blocks (see threshold), and let g be such that a sample weighing 1 at or above u
// and g between t and u exceeded with mean 1-q. If
//
//	P(canary >= (1+margin)*t)  <  P(baseline >= u) + g*P(t <= baseline < u)
//
// then at the level that the right-hand side has, which is 1-q but for the error of the estimate, the quantile of the canary is at most (1+margin)*t and the
// baseline's at least t: the claim. Null hypothesis: the mean over requests so far, weighted as in NonInferiority, of the left-hand side is at least that of the
// right-hand side. It is tested by the same bets, with margin 0. The right-hand side is measured on the requests tested and not set to 1-q, so a drift of both
// versions' latency does not count against the canary.
//
// Both roundings (t down within its bucket, (1+margin)*t down to a boundary) are against acceptance: a margin loses up to two widths of a bucket,
// typically 3 points. The failure mode is that of NonInferiority: the claim is about the mean over requests so far.
type LatencyNonInferiority struct {
	margin           float64
	threshold        *threshold
	bets             bets
	canary, baseline uint64 // requests tested
	exceeding        uint64 // canary requests tested that exceeded
}

// NewLatencyNonInferiority returns a test of quantile q in (0, 1) with a relative margin of at least MinLatencyMargin (0.25 allows a quarter more).
// The first threshold is estimated from the first MinBaseline(q) baseline requests.
func NewLatencyNonInferiority(q, margin float64) (*LatencyNonInferiority, error) {
	if !(q > 0 && q < 1) {
		return nil, fmt.Errorf("quantile %v is not in (0, 1)", q)
	}
	if !(margin >= MinLatencyMargin && margin <= 100) {
		return nil, fmt.Errorf("relative margin %v of a latency is not in [%v, 100]", margin, MinLatencyMargin)
	}
	return &LatencyNonInferiority{margin: margin, threshold: newThreshold(q, MinBaseline(q))}, nil
}

// Add takes the next block: measures it with the threshold of the past, and then lets its baseline teach the threshold. An error wraps ErrBlock.
func (t *LatencyNonInferiority) Add(b LatencyBlock) error {
	if err := b.check(); err != nil {
		return err
	}
	if t.threshold.ready {
		t.settle(b)
	}
	t.threshold.learn(b.Baseline)
	return nil
}

func (t *LatencyNonInferiority) settle(b LatencyBlock) {
	cut := t.threshold
	canary := Arm{Requests: b.Canary.Count(), Events: b.Canary.CountAbove(t.canaryBucket())}
	baseline := Arm{Requests: b.Baseline.Count(), Events: b.Baseline.CountAbove(cut.bucket + 1)}
	within := b.Baseline.CountIn(cut.bucket)
	k := key{share: b.Share, guess: 1 - cut.q}
	if k.share == 0 {
		k.share = Block{Canary: canary, Baseline: baseline}.realised()
	}
	t.bets.pay(k.canaryGain(0, 1), canary.Events)
	t.bets.pay(k.canaryGain(0, 0), canary.rest())
	t.bets.pay(k.baselineGain(1), baseline.Events)
	t.bets.pay(k.baselineGain(t.part()), within)
	t.bets.pay(k.baselineGain(0), baseline.rest()-within)
	t.canary += canary.Requests
	t.baseline += baseline.Requests
	t.exceeding += canary.Events
}

// part is what a baseline request in the quantile's own bucket counts for, so that the past exceeded with mean 1-q.
func (t *LatencyNonInferiority) part() float64 {
	cut := t.threshold
	return min(max((1-cut.q-cut.above)/cut.within, 0), 1)
}

// canaryBucket begins at or below (1+margin) times the bucket of the baseline's quantile.
func (t *LatencyNonInferiority) canaryBucket() int {
	return hist.Index(time.Duration(float64(hist.Lower(t.threshold.bucket)) * (1 + t.margin)))
}

// Thresholds returns what the canary's and the baseline's requests are measured against now; zeros before the first estimate.
func (t *LatencyNonInferiority) Thresholds() (canary, baseline time.Duration) {
	if !t.threshold.ready {
		return 0, 0
	}
	return hist.Lower(t.canaryBucket()), hist.Lower(t.threshold.bucket)
}

// LogE returns the natural logarithm of the e-value against "slower by the margin or more", now.
func (t *LatencyNonInferiority) LogE() float64 { return t.bets.logE() }

// Accepts reports whether the evidence now shows, with error probability alpha over all looks, that the canary is within the margin.
func (t *LatencyNonInferiority) Accepts(alpha float64) bool { return t.bets.accepts(alpha) }

// Forecast says about how many more canary requests, at the given share, lead to acceptance if the canary goes on as it did. While there is no
// threshold it cannot say, and Reachable is false. See NonInferiority.Forecast for what the number is worth.
func (t *LatencyNonInferiority) Forecast(alpha, share float64) Forecast {
	if t.Accepts(alpha) {
		return Forecast{Reachable: true}
	}
	if !(share > 0 && share < 1) || !t.threshold.ready {
		return Forecast{}
	}
	rate := jeffreys(Arm{Requests: t.canary, Events: t.exceeding})
	if t.canary < MinForecastRequests {
		return Forecast{}
	}
	q := t.threshold.q
	k := key{share, 1 - q}
	perBaseline := (1 - share) / share
	return forecast(t.bets.requests(alpha, []outcome{
		{k.canaryGain(0, 1), rate},
		{k.canaryGain(0, 0), 1 - rate},
		{k.baselineGain(1), perBaseline * (1 - q)},
		{k.baselineGain(0), perBaseline * q},
	}))
}

// MinForecastRequests is how many canary requests must have been measured before a latency forecast says anything.
const MinForecastRequests = 20

// Requests returns how many requests of each version were measured against a threshold.
func (t *LatencyNonInferiority) Requests() (canary, baseline uint64) { return t.canary, t.baseline }
