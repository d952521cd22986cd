package sequential

import "math"

// bets is the wealth of gamblers who each stake a constant fraction of it on every outcome, and the mean over them. A gambler with fraction f
// multiplies its wealth by 1+f*gain. Fractions are below 1 and gains at least -1, so nobody is ever ruined.
//
// Why constant fractions: let the gain of request i have expectation v*(m-d(i)) given the past, for a weight v >= 0 and a quantity d(i) that
// may change with time. Since 1+x <= exp(x), wealth divided by exp(f*sum(v*(m-d))) is a supermartingale; at every time at which the v-weighted mean of d so
// far is at least m the wealth is no larger than it. By Ville's inequality the chance that wealth reaches 1/alpha at any such time is at most alpha.
// So this tests the running mean of d, not a d that is assumed constant (the betting martingales of Waudby-Smith & Ramdas,
// "Estimating means of bounded random variables by betting", JRSS-B 86(1), 2024, with fixed bets).
type bets struct {
	logWealth [len(fractions)]float64
}

// fractions are the stakes. The best one for rare events is 1 - rate/(rate+margin), for frequent ones about margin/variance.
var fractions = [...]float64{0.02, 0.05, 0.1, 0.18, 0.28, 0.4, 0.52, 0.64, 0.76, 0.86, 0.94}

// logStart is the logarithm of the wealth that each gambler starts with.
var logStart = -math.Log(float64(len(fractions)))

// pay settles count outcomes with the same gain.
func (b *bets) pay(gain float64, count uint64) {
	if count == 0 || gain == 0 {
		return
	}
	for k, f := range fractions {
		b.logWealth[k] += float64(count) * math.Log1p(f*gain)
	}
}

// logE returns the logarithm of the mean wealth.
func (b *bets) logE() float64 {
	return logSumExp(b.logWealth[:]) + logStart
}

// accepts reports whether the wealth now refutes the null hypothesis.
func (b *bets) accepts(alpha float64) bool { return b.logE() >= -math.Log(alpha) }

// outcome is a gain and how often it is expected per canary request.
type outcome struct{ gain, perCanary float64 }

// requests returns about how many more canary requests it takes until the mean wealth is what alpha asks for, if outcomes come at the given
// rates and every gambler grows as expected. It is false when no gambler expects to grow.
func (b *bets) requests(alpha float64, outcomes []outcome) (float64, bool) {
	var growth [len(fractions)]float64
	for k, f := range fractions {
		for _, o := range outcomes {
			growth[k] += o.perCanary * math.Log1p(f*o.gain)
		}
	}
	enough := func(n float64) bool {
		later := *b
		for k := range growth {
			later.logWealth[k] += n * growth[k]
		}
		return later.accepts(alpha)
	}
	// The expected evidence is convex in n and too small at 0, so it crosses once or never.
	const never = 1e12
	low, high := 0.0, 1.0
	for ; !enough(high); low, high = high, 2*high {
		if high > never {
			return 0, false
		}
	}
	for high-low > 0.5 {
		mid := (low + high) / 2
		if enough(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high, true
}
