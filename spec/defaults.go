package spec

import (
	"maps"
	"slices"
	"time"
)

// applyDefaults fills in what the author left out, so that readers of a loaded scenario never have to know a default.
func (s *Scenario) applyDefaults() {
	if len(s.Environments) == 0 {
		s.Environments = []string{EnvLocal, EnvKind}
	}
	orDefault(&s.Namespace, "default")
	orDefault(&s.Timeout, 5*time.Minute)
	orDefault(&s.OutboundTrafficPolicy.Mode, RegistryOnly)
	if s.Tracing.Sampling == nil {
		s.Tracing.Sampling = percent(1)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		svc := s.Services[name]
		orDefault(&svc.Protocol, "http")
		for _, v := range svc.Versions {
			orDefault(&v.Replicas, 1)
			v.Readiness.applyDefaults(v.Run)
		}
	}
	for _, e := range s.External {
		orDefault(&e.Protocol, "http")
		e.Readiness.applyDefaults(e.Run)
	}
	for _, hooks := range [][]Hook{s.Setup, s.Teardown} {
		for i := range hooks {
			orDefault(&hooks[i].Timeout, time.Minute)
		}
	}
	for i := range s.Load {
		l := &s.Load[i]
		if l.GRPC != nil {
			l.Method, l.Path = "POST", l.GRPC.Method
		}
		orDefault(&l.Method, "GET")
		orDefault(&l.Path, "/")
		orDefault(&l.Timeout, 10*time.Second)
		orDefault(&l.Arrival, ArrivalUniform)
		orDefault(&l.MaxInFlight, 1000)
	}
	for i := range s.Faults {
		f := &s.Faults[i]
		if f.PodKill != nil {
			orDefault(&f.PodKill.Count, 1)
		}
		if f.NodeDrain != nil {
			orDefault(&f.NodeDrain.Count, 1)
		}
		if f.Disruption() != "" {
			continue
		}
		orDefault(&f.At, "attempt")
		orDefault(&f.Lease, 10*time.Second)
		if !s.written(join(index("faults", i), "minMatched")) {
			f.MinMatched = 1
		}
	}
	if s.Rollout != nil {
		s.Rollout.applyDefaults()
		if !s.written("rollout.warmup") {
			s.Rollout.Warmup = 3 * time.Second
		}
	}
	s.expectDefaults()
}

// written reports whether the author wrote a value for the path, so that an explicit zero is not taken for a missing one.
func (s *Scenario) written(path string) bool { return s.source.nodes[path] != nil }

func (r *Readiness) applyDefaults(run Run) {
	orDefault(&r.Timeout, 30*time.Second)
	if r.Path == "" && !r.TCP {
		if run.Fixture != "" {
			r.Path = "/healthz"
		} else {
			r.TCP = true
		}
	}
}

func (r *Rollout) applyDefaults() {
	orDefault(&r.Judge, JudgeRequests)
	for i := range r.Steps {
		if h := r.Steps[i].Analysis; h != nil {
			orDefault(&h.Timeout, time.Minute)
		}
	}
	a := &r.Analysis
	orDefault(&a.Alpha, 0.01)
	orDefault(&a.Beta, 0.05)
	orDefault(&a.Interval, 200*time.Millisecond)
	if a.Checks == nil {
		a.Checks = []Check{{Name: CheckSuccessRate}, {Name: CheckDuration}}
	}
	for i := range a.Checks {
		a.Checks[i].applyDefaults()
	}
}

func (c *Check) applyDefaults() {
	orDefault(&c.Direction, "increase")
	if !c.IsBuiltIn() {
		orDefault(&c.Interval, 2*time.Second)
		orDefault(&c.OnNoData, "inconclusive")
		return
	}
	orDefault(&c.Compare, CompareBaseline)
	if c.Compare == CompareBaseline && c.MaxDegradation == nil {
		p := Percent(1)
		if c.Name == CheckDuration {
			p = 30
		}
		c.MaxDegradation = &p
	}
	if c.Name == CheckDuration {
		orDefault(&c.Quantile, 0.99)
		orDefault(&c.PromoteOn, 0.9)
		if len(c.Quantiles) == 0 {
			c.Quantiles = []float64{0.5, 0.9, 0.99}
		}
		if c.Compare == CompareBaseline && c.Tolerance == nil {
			p := min(10, *c.MaxDegradation/3)
			c.Tolerance = &p
		}
	}
}

func (s *Scenario) expectDefaults() {
	if s.Expect == nil {
		s.Expect = &Expect{}
	}
	outcome := OutcomeNone
	if s.Rollout != nil {
		outcome = OutcomePromoted
	}
	orDefault(&s.Expect.Rollout, outcome)
	for i := range s.Expect.Checks {
		e := &s.Expect.Checks[i]
		if e.SuccessRate != nil {
			orDefault(&e.SuccessRate.Confidence, 99.9)
			s.onlyStream(&e.SuccessRate.Load)
		}
		if e.TrafficShare != nil {
			orDefault(&e.TrafficShare.Confidence, 99.9)
		}
		if e.Latency != nil {
			s.onlyStream(&e.Latency.Load)
		}
		if e.FanOut != nil && e.FanOut.Min == nil {
			e.FanOut.Min = percent(95)
		}
	}
}

func (s *Scenario) onlyStream(name *string) {
	if *name == "" && len(s.Load) == 1 {
		*name = s.Load[0].Name
	}
}

func percent(p Percent) *Percent { return &p }

func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
