package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are for Prometheus, at /metrics.
func (c *cluster) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{c})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	return mux
}

// collector tells what a control plane does. Everything but whether it leads and what it asked is of its present term.
type collector struct{ *cluster }

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("meshtest_control_"+name, help, nil, nil)
}

var (
	descLeader     = describe("leader", "Whether this control plane leads: 1, or 0.")
	descReviews    = describe("token_reviews_total", "Questions to the API server about tokens.")
	descSidecars   = describe("connected_sidecars", "Sidecars that are connected.")
	descEpoch      = describe("generation_epoch", "Epoch of the configuration: the term of the control plane.")
	descCounter    = describe("generation_counter", "Counter of the newest configuration within its epoch.")
	descConverged  = describe("converged_counter", "Counter of the newest configuration that every connected sidecar has.")
	descPushes     = describe("pushes_total", "Updates sent to sidecars.")
	descNacks      = describe("nacks_total", "Updates that sidecars refused.")
	descProblems   = describe("problems", "Pieces of the configuration that are left out because they are wrong.")
	ofLeadingPlane = []*prometheus.Desc{descSidecars, descEpoch, descCounter, descConverged, descPushes, descNacks, descProblems}
)

// Describe lists the metrics.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{descLeader, descReviews}, ofLeadingPlane...) {
		to <- d
	}
}

// Collect tells their values.
func (c collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	counter := func(d *prometheus.Desc, value uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	counter(descReviews, c.reviewer.Reviews())
	plane := c.plane.Load()
	if plane == nil {
		gauge(descLeader, 0)
		return
	}
	gauge(descLeader, 1)
	s := plane.Server().Stats()
	gauge(descSidecars, float64(s.Sidecars))
	gauge(descEpoch, float64(s.Generation.Epoch))
	gauge(descCounter, float64(s.Generation.Counter))
	gauge(descConverged, float64(s.Converged.Counter))
	counter(descPushes, s.Pushes)
	counter(descNacks, s.Refusals)
	gauge(descProblems, float64(plane.Problems()))
}
