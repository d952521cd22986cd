// Package sequential weighs the evidence behind a judgement: anytime-valid statistics for a canary beside its baseline.
//
// Every test here is an e-process: a number that starts at 1, is fed blocks of counts, and under its null hypothesis has an expectation of at
// most 1 at every stopping time. By Ville's inequality it ever reaches 1/alpha with probability at most alpha, so one may look after every block,
// stop when one likes, and change weights on the way (Ramdas, Grunwald, Vovk, Shafer, "Game-theoretic statistics and safe
// anytime-valid inference", Statistical Science 38(4), 2023). There are four questions:
//
//   - Harm: is the canary worse? Null: its rate of events is at most the baseline's. Rejecting it means roll back.
//   - Latency: the same on exceedances of the baseline's quantiles.
//   - NonInferiority and LatencyNonInferiority: is the canary good enough? Null: it is worse by the margin. Rejecting it means
//     that the check holds. No evidence rejects neither null, and that is "inconclusive", with a forecast.
//   - Split: did the split send what it was configured to send?
//
// # Error over a family of checks
//
// A roll-out that is rolled back when any check rejects has to share its alpha: with DefaultAlpha, half for errors and half for latency (see
// Shares). A roll-out that is promoted only when all checks accept needs no sharing: promoting a bad canary needs the error of the very check that it fails
// (intersection-union test, Berger 1982), so each check accepts at the full alpha.
//
// # What is assumed
//
// Requests are independent given the past. Clustered events (one client that retries, one bad pod) break that: count keys or
// users instead. Rates may change with time in any way, also with the weight; what each test then says is written at its type.
// The tests look once per Add; a block's end must not depend on what happened in it.
//
// Everything is pure: counts in, numbers out, the same blocks in the same order give the same bits, and never NaN or an infinity.
package sequential
