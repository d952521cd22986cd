package sequential

import "math"

// DefaultAlpha is the chance with which a healthy canary may be rolled back, over all checks and looks of a roll-out.
const DefaultAlpha = 0.01

// DefaultAcceptAlpha is the chance with which one check accepts a canary that is worse than its margin, over all looks.
const DefaultAcceptAlpha = 0.05

// Shares of the family's alpha: a weighted Bonferroni split, so that each check can say for itself why it rejected. Errors are the more common harm and
// the dearer one. Within latency the quantiles share by averaging e-values, see DefaultQuantiles.
const (
	ErrorShare   = 0.5
	LatencyShare = 0.5
)

// MinCanaryRequests is how many canary requests there must be before a harm test decides anything, whatever they did.
const MinCanaryRequests = 4

// Evidence is the state of an e-process against a null hypothesis. The zero value, e = 1, is none.
type Evidence struct {
	logE    float64
	maxLogE float64
}

// LogE returns the natural logarithm of the e-value now.
func (e Evidence) LogE() float64 { return e.logE }

// MaxLogE returns the logarithm of the largest e-value at any look since there were enough requests to decide; at least 0.
func (e Evidence) MaxLogE() float64 { return e.maxLogE }

// PValue returns the anytime-valid p-value: one over the largest e-value so far. It never grows.
func (e Evidence) PValue() float64 { return math.Exp(-e.maxLogE) }

// Rejects reports whether the null hypothesis was rejected at some look, with error probability alpha in (0, 1) over all looks.
func (e Evidence) Rejects(alpha float64) bool { return e.maxLogE >= -math.Log(alpha) }

// observe is one look. Looks with too few requests are not looks: they leave the maximum alone.
func (e *Evidence) observe(logE float64, enough bool) {
	e.logE = logE
	if enough {
		e.maxLogE = max(e.maxLogE, logE)
	}
}
