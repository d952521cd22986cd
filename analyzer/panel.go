package analyzer

// Panel is all checks of a roll-out: the statistical ones, which hear the evidence, and the queries, which are measured.
type Panel struct {
	Judges  []Judge
	Queries []*Query

	canaryRequests uint64
	canaryFailed   uint64
}

// Observe takes a block of evidence.
func (p *Panel) Observe(block []Observation) {
	if len(block) == 0 {
		return
	}
	for _, o := range block {
		if o.Arm == Canary {
			p.canaryRequests += o.Requests
			p.canaryFailed += o.Failed
		}
	}
	for _, j := range p.Judges {
		j.Observe(block)
	}
}

// Judgement is the state of all checks.
func (p *Panel) Judgement() Judgement {
	j := Judgement{CanaryRequests: p.canaryRequests, CanaryFailed: p.canaryFailed}
	for _, judge := range p.Judges {
		j.Checks = append(j.Checks, judge.Check())
	}
	for _, q := range p.Queries {
		j.Checks = append(j.Checks, q.Check())
	}
	j.Verdict, j.Reason = combine(j.Checks)
	return j
}
