package run

import (
	"time"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/spec"
)

// Timeouts bound what a run waits for besides the load and the roll-out. A field that is 0 takes the default of the environment.
type Timeouts struct {
	Up       time.Duration // for the environment to stand
	Converge time.Duration // for the control plane to take a configuration and every sidecar to acknowledge it
	Quiet    time.Duration // for the last evidence, after the load has ended
	Heal     time.Duration // for a fault to be undone
	Down     time.Duration // for everything to be gone
	Diagnose time.Duration // for what is asked when something went wrong
}

// localTimeouts are of processes of this machine, which answer at once or never. A supervisor or a control plane that was stopped is found by them.
var localTimeouts = Timeouts{
	Up: 5 * time.Minute, Converge: 10 * time.Second, Quiet: 3 * time.Second, Heal: 5 * time.Second, Down: 15 * time.Second, Diagnose: 5 * time.Second,
}

// clusterTimeouts are of a cluster: images are loaded, pods are scheduled, a control plane that was killed comes back when its predecessor's lease has run out, and everything is reached through the
// API server.
var clusterTimeouts = Timeouts{
	Up: 15 * time.Minute, Converge: time.Minute, Quiet: 10 * time.Second, Heal: 30 * time.Second, Down: 3 * time.Minute, Diagnose: time.Minute,
}

func defaultTimeouts(e env.Environment) Timeouts {
	if e == nil || e.Name() == spec.EnvLocal {
		return localTimeouts
	}
	return clusterTimeouts
}

// or takes what is not said from others.
func (t Timeouts) or(others Timeouts) Timeouts {
	for _, one := range []struct {
		of    *time.Duration
		other time.Duration
	}{
		{&t.Up, others.Up}, {&t.Converge, others.Converge}, {&t.Quiet, others.Quiet}, {&t.Heal, others.Heal}, {&t.Down, others.Down}, {&t.Diagnose, others.Diagnose},
	} {
		if *one.of <= 0 {
			*one.of = one.other
		}
	}
	return t
}
