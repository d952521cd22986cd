// Package metrics remembers: it scrapes the sidecars' and applications' metrics and keeps the series in memory for the
// length of a run.
//
// A [Scraper] reads Prometheus text exposition from targets and appends to a [Store]; package promql asks the Store
// questions in PromQL. What could not be read is visible: as `up` 0, as stale markers, which end a series in every
// query, and as counts in [Health].
package metrics
