package run

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/test/bufconn"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/agent"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/metrics/promql"
	"meshtest.dev/meshtest/rollout"
)

const smoke = `apiVersion: meshtest.dev/v1
kind: Scenario
metadata: {name: smoke}
services:
  frontend: {port: 8080, versions: {v1: {run: {fixture: chain}, env: {U: "${service.backend.url}"}}}}
  backend: {port: 8081, versions: {v1: {run: {fixture: chain}}}}
load: [{name: users, target: frontend, rate: 100/s, duration: 20s}]
expect: {checks: [{name: ok, successRate: {min: 99%}}]}
`

const canary = `apiVersion: meshtest.dev/v1
kind: Scenario
metadata: {name: canary}
services:
  frontend: {port: 8080, versions: {v1: {run: {fixture: chain}, env: {U: "${service.backend.url}"}}}}
  backend: {port: 8081, versions: {v1: {run: {fixture: chain}}, v2: {run: {fixture: chain}}}}
load: [{name: users, target: frontend, rate: 200/s}]
rollout:
  service: backend
  stable: v1
  canary: v2
  steps: [{setWeight: 20}, {pause: {duration: 20s}}, {setWeight: 50}, {pause: {duration: 20s}}]
  analysis: {checks: [{name: request-success-rate, maxDegradation: 5%}]}
faults:
  - {name: broken, from: frontend, to: backend, abort: {httpStatus: 503, percentage: 10}, at: request, window: {step: 3}}
`

// in runs a test in a bubble of its own time.
func in(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	testbubble.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

func TestARunThatPromotes(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.perform(t.Context(), canary)
		require.Equal(t, Passed, o.Verdict, o.Reason)
		require.Equal(t, rollout.Promoted, o.Outcome)
		require.Equal(t, []string{journal.FaultArmed, journal.FaultHealed}, o.faultStates(t, "broken"))
		require.Equal(t, 1, w.downs)
		for _, c := range events[journal.SelfCheck](t, o.states) {
			require.True(t, c.OK, "%s: %s", c.Name, c.Reason)
		}
		finished := events[journal.Finished](t, o.states)
		require.Len(t, finished, 1)
		require.Equal(t, "pass", finished[0].Verdict)
		_, err := os.Stat(filepath.Join(o.out, "diagnostics"))
		require.ErrorIs(t, err, os.ErrNotExist, "nothing went wrong")
		for _, j := range events[journal.Judgement](t, o.states) {
			for _, check := range j.Checks {
				require.Equal(t, check.Verdict != "noData", check.Baseline != nil, "a baseline of 0 is one")
			}
		}
	})
}

// Two seconds of load are enough for who was there before.
func TestARunThatIsShort(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.perform(t.Context(), strings.Replace(smoke, "duration: 20s", "duration: 2s", 1))
		require.Equal(t, Passed, o.Verdict, o.Reason)
	})
}

// A fault that is there from the beginning is in force before the first request.
func TestAFaultFromTheBeginning(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var held []string
		w.begins = func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, s := range w.of("frontend") {
				held = slices.AppendSeq(held, maps.Keys(s.leases))
			}
		}
		o := w.perform(t.Context(), smoke+"faults: [{name: always, from: frontend, to: backend, abort: {httpStatus: 503, percentage: 100}, at: request}]\n")
		require.Equal(t, Passed, o.Verdict, o.Reason)
		require.Equal(t, []string{"always"}, held)
		faults := events[journal.Fault](t, o.states)
		require.EqualValues(t, 2000, faults[len(faults)-1].Injected, "every request")
	})
}

// A machine that stops for a moment voids nothing; one that is too busy voids what rests on latency. How much is too much follows from the quantile that is judged.
func TestAMachineThatIsBusy(t *testing.T) {
	const p99 = "expect: {checks: [{name: quick, latency: {load: users, quantile: 0.99, max: 1s}}]}\n"
	slow := strings.Replace(canary, "[{name: request-success-rate, maxDegradation: 5%}]", "[{name: request-success-rate, maxDegradation: 5%}, {name: request-duration, compare: threshold, quantile: 0.9, thresholdRange: {max: 1s}}]", 1)
	for _, test := range []struct {
		name, scenario string
		late           uint64 // of a hundred
		verdict        Verdict
	}{
		{"a moment, p90", slow, 2, Passed},
		{"too busy, p90", slow, 3, Invalid},
		{"a moment, p99", smoke[:strings.Index(smoke, "expect")] + p99, 2, Invalid},
		{"no latency is judged", smoke, 50, Passed},
	} {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.late = func(seq uint64) time.Duration {
					if seq%100 < test.late {
						return 100 * time.Millisecond
					}
					return 0
				}
				o := w.perform(t.Context(), test.scenario)
				require.Equal(t, test.verdict, o.Verdict, o.Reason)
				if test.verdict == Invalid {
					require.Contains(t, o.Reason, "schedule: ")
				}
			})
		})
	}
}

func TestARunThatIsInterrupted(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancelCause(t.Context())
		w.each = func(now time.Duration) {
			if now > 30*time.Second {
				cancel(Interrupt{Signal: "SIGINT", Code: 130})
			}
		}
		o := w.perform(ctx, canary)
		require.Equal(t, Aborted, o.Verdict)
		require.Equal(t, 130, o.ExitCode)
		require.Equal(t, []string{journal.FaultArmed, journal.FaultHealed}, o.faultStates(t, "broken"), "it is healed on every path")
		require.Equal(t, 1, w.downs)
	})
}

// Copies for mirrors are no evidence. Callees count them, and so do callers.
func TestCopiesAreAccountedFor(t *testing.T) {
	for name, counted := range map[string]bool{"callers count them": true, "callers do not": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.each = func(time.Duration) {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.find("backend-v2-1").answered += 5
					if counted {
						w.find("frontend-v1-1").copied += 5
					}
				}
				o := w.perform(t.Context(), canary)
				if counted {
					require.Equal(t, Passed, o.Verdict, o.Reason)
				} else {
					require.Equal(t, Invalid, o.Verdict)
					require.Contains(t, o.Reason, "versions: callers sent")
				}
			})
		})
	}
}

func frontend(instance string) mesh.Workload {
	return mesh.Workload{Name: "frontend-v1", Namespace: "default", Service: "frontend", Version: "v1", Instance: instance}
}

// A sidecar that comes is listened to, scraped, and leased what is in force.
func TestASidecarThatComesLate(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var late *fakeSidecar
		w.each = func(now time.Duration) {
			if now > 30*time.Second && late == nil {
				late = w.join(frontend("frontend-v1-2"))
			}
		}
		o := w.perform(t.Context(), canary)
		require.Equal(t, Passed, o.Verdict, o.Reason)
		a := late.accounts["broken"]
		require.Positive(t, a.Aborted, "it executed the fault that was in force when it came")
		require.Equal(t, mesh.LeaseReleased, a.State)
		heard := false
		for _, n := range events[journal.Note](t, o.states) {
			heard = heard || n.Text == "sidecar frontend-v1-2 came"
		}
		require.True(t, heard)
	})
}

// A pod that replaces one of the same name is another one: its evidence begins anew.
func TestASidecarThatComesBackByTheSameName(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		left, back := false, false
		w.disrupt = func(env.Disruption) ([]string, func(context.Context) error, error) {
			return []string{"frontend-v1-1"}, nil, nil
		}
		w.each = func(now time.Duration) {
			switch {
			case now > 10*time.Second && !left:
				left = true
				w.leave("frontend-v1-1", "its pod is gone")
			case now > 11*time.Second && !back:
				back = true
				w.join(frontend("frontend-v1-1"))
			}
		}
		o := w.perform(t.Context(), disrupted(`podKill: {service: frontend}`))
		require.Equal(t, Passed, o.Verdict, o.Reason)
	})
}

// disrupted is the smoke test with a fault of what carries the mesh.
func disrupted(what string) string {
	return smoke + "faults: [{name: hit, " + what + ", window: {start: 5s, duration: 10s}}]\n"
}

func TestASidecarThatVanishes(t *testing.T) {
	vanish := func(w *world, instance string) {
		gone := false
		w.each = func(now time.Duration) {
			if now > 8*time.Second && !gone {
				gone = true
				w.leave(instance, "its pod is gone")
				w.join(frontend(instance + "b"))
			}
		}
	}
	shared := func(from string) string {
		return smoke[:len(smoke)-len("expect: {checks: [{name: ok, successRate: {min: 99%}}]}\n")] +
			"expect: {checks: [{name: share, trafficShare: {from: " + from + ", to: backend, version: v1, min: 1%}}]}\n"
	}
	t.Run("nobody declared it, and its view is needed", func(t *testing.T) {
		in(t, func(t *testing.T, w *world) {
			vanish(w, "frontend-v1-1")
			o := w.perform(t.Context(), shared("frontend"))
			require.Equal(t, Invalid, o.Verdict)
			require.Contains(t, o.failedCheck(t, "evidence"), "frontend-v1-1 has gone, and no fault was declared that could have taken it away: its pod is gone")
		})
	})
	t.Run("nobody declared it", func(t *testing.T) {
		in(t, func(t *testing.T, w *world) {
			vanish(w, "frontend-v1-1")
			o := w.perform(t.Context(), smoke)
			require.Equal(t, Invalid, o.Verdict)
			require.Contains(t, o.failedCheck(t, "processes"), "frontend-v1-1 has gone")
		})
	})
	for name, tt := range map[string]struct {
		fault string
		hit   []string
		valid bool
	}{
		"it was killed":          {"podKill: {service: frontend}", []string{"frontend-v1-1"}, true},
		"another one was killed": {"podKill: {service: frontend}", []string{"frontend-v1-7"}, false},
		"its node was drained":   {"nodeDrain: {service: backend}", []string{"worker2"}, true},
		"it was scaled away":     {"scale: {service: frontend, replicas: 0}", []string{"frontend-v1"}, true},
		"the control plane was killed, which takes no sidecar away": {"controlKill: {}", []string{"control"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				vanish(w, "frontend-v1-1")
				w.disrupt = func(env.Disruption) ([]string, func(context.Context) error, error) { return tt.hit, nil, nil }
				o := w.perform(t.Context(), disrupted(tt.fault))
				require.Equal(t, tt.valid, o.Verdict == Passed, o.Reason)
				require.Equal(t, []string{journal.FaultArmed, journal.FaultHit, journal.FaultHealed}, o.faultStates(t, "hit"))
			})
		})
	}
}

func TestADisruptionIsUndone(t *testing.T) {
	two := 2
	for name, tt := range map[string]struct {
		healErr error
		stop    bool
		verdict Verdict
	}{
		"as its window closes":  {nil, false, Passed},
		"on an interrupt":       {nil, true, Aborted},
		"or the run is invalid": {errors.New("the API server does not answer"), false, Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				began, healed := time.Time{}, time.Time{}
				w.disrupt = func(d env.Disruption) ([]string, func(context.Context) error, error) {
					began = time.Now()
					require.Equal(t, env.Disruption{Fault: "hit", Service: "backend", Version: "v1", Seed: 42, Scale: &two}, d)
					return []string{"backend-v1"}, func(context.Context) error { healed = time.Now(); return tt.healErr }, nil
				}
				w.each = func(now time.Duration) {
					if tt.stop && now > 7*time.Second {
						cancel(Interrupt{Signal: "SIGTERM", Code: 143})
					}
				}
				o := w.perform(ctx, disrupted(`scale: {service: backend, version: v1, replicas: 2}`))
				require.Equal(t, tt.verdict, o.Verdict, o.Reason)
				require.False(t, healed.IsZero())
				if !tt.stop {
					require.Equal(t, 10*time.Second, healed.Sub(began).Round(time.Second))
				}
				if tt.healErr != nil {
					require.Contains(t, o.failedCheck(t, "fault hit"), "it could not be undone: the API server does not answer")
				}
				require.Len(t, w.disrupted, 1)
			})
		})
	}
}

func TestADisruptionThatDoesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		disrupt func(env.Disruption) ([]string, func(context.Context) error, error)
		reason  string
	}{
		"it hits nothing": {func(env.Disruption) ([]string, func(context.Context) error, error) { return nil, nil, nil }, "it hit nothing: there was nothing to delete 1 pod of backend"},
		"it fails": {func(env.Disruption) ([]string, func(context.Context) error, error) {
			return nil, nil, errors.New("forbidden")
		}, "forbidden"},
		"nobody can": {nil, "the environment local has no way to delete 1 pod of backend"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.disrupt = tt.disrupt
				o := w.perform(t.Context(), disrupted(`podKill: {service: backend}`))
				require.Equal(t, Invalid, o.Verdict)
				require.Equal(t, 4, o.ExitCode)
				require.Equal(t, tt.reason, o.failedCheck(t, "fault hit"))
				require.Contains(t, o.Reason, "fault hit: "+tt.reason)
				require.Equal(t, 1, w.downs)
			})
		})
	}
}

// A control plane that is away holds up the roll-out, and nothing else.
func TestAControlPlaneThatTakesItsTime(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.away = 6 * time.Second
		o := w.perform(t.Context(), canary)
		require.Equal(t, Passed, o.Verdict, o.Reason)
		for _, c := range events[journal.SelfCheck](t, o.states) {
			require.True(t, c.OK, "%s: %s", c.Name, c.Reason)
		}
	})
	in(t, func(t *testing.T, w *world) {
		w.away = time.Hour
		o := w.perform(t.Context(), canary)
		require.Equal(t, Invalid, o.Verdict)
		require.Equal(t, "convergence: the control plane took no configuration within 10s", o.Reason)
		data, err := os.ReadFile(filepath.Join(o.out, "diagnostics", "edge.stats"))
		require.NoError(t, err)
		require.Equal(t, "1", string(data))
		quoted := false
		for _, n := range events[journal.Note](t, o.states) {
			quoted = quoted || n.Text == "the last that was heard:\n  | edge: all is lost"
		}
		require.True(t, quoted)
	})
}

// A control plane that begins anew keeps the rules, and counts from another epoch.
func TestANewEpochOfTheControlPlane(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		restarted := false
		w.each = func(now time.Duration) {
			if now > 10*time.Second && !restarted {
				restarted = true
				w.mu.Lock()
				w.generation = mesh.Generation{Epoch: 8}
				w.mu.Unlock()
			}
		}
		o := w.perform(t.Context(), canary)
		require.Equal(t, Passed, o.Verdict, o.Reason)
	})
}

func TestASidecarThatNeverAcknowledges(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.deaf["frontend-v1-1"] = true
		o := w.perform(t.Context(), canary)
		require.Equal(t, Invalid, o.Verdict)
		require.Contains(t, o.Reason, "convergence: frontend-v1-1 never acknowledged generation 7.2 (waited 10s)")
	})
	// Only who is there can be waited for.
	in(t, func(t *testing.T, w *world) {
		w.deaf["frontend-v1-2"] = true
		w.disrupt = func(env.Disruption) ([]string, func(context.Context) error, error) {
			return []string{"frontend-v1-2"}, nil, nil
		}
		came, left := false, false
		w.each = func(now time.Duration) {
			switch {
			case now > time.Second && !came:
				came = true
				w.join(frontend("frontend-v1-2"))
			case now > 8*time.Second && !left:
				left = true
				w.leave("frontend-v1-2", "its pod is gone")
			}
		}
		o := w.perform(t.Context(), canary+"  - {name: killed, podKill: {service: frontend}, window: {start: 7s}}\n")
		require.Equal(t, Passed, o.Verdict, o.Reason)
	})
}

// elsewhere is a Prometheus that knows one number.
type elsewhere struct{ asked []string }

func (e *elsewhere) Instant(_ context.Context, query string, at time.Time) (promql.Value, error) {
	e.asked = append(e.asked, query)
	return promql.Value{Kind: promql.Scalar, Series: []promql.Series{{Points: []promql.Point{{T: at, V: 7}}}}}, nil
}

// The author's queries go to a Prometheus that is there. The run's own are answered by what it has read itself.
func TestAPrometheusThatIsThere(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		there := &elsewhere{}
		w.prometheus = there
		o := w.perform(t.Context(), smoke[:len(smoke)-len("expect: {checks: [{name: ok, successRate: {min: 99%}}]}\n")]+"expect: {checks: [{name: seven, query: sum(up), condition: result == 7}]}\n")
		require.Equal(t, Passed, o.Verdict, o.Reason)
		require.Equal(t, []string{"sum(up)"}, there.asked)
	})
}

// agentWorld is a world with a load agent inside.
type agentWorld struct {
	*world
	dial  wire.Dial
	token string
	ok    bool
}

func (w agentWorld) LoadAgent() (wire.Dial, string, bool) { return w.dial, w.token, w.ok }

// Load comes from inside the mesh when somebody there sends it.
func TestLoadComesFromTheMesh(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		listener := bufconn.Listen(1 << 16)
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- agent.Serve(ctx, listener, "secret") }()
		dial := func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) }
		pacer, err := load.Constant(10)
		require.NoError(t, err)
		stream := load.Stream{Name: "users", URL: "http://frontend:8080/", Pacer: pacer, Duration: time.Second}
		sent := func(m env.Mesh) error {
			c := newConductor(Options{}, nil)
			c.mesh = m
			_, err := c.loader().Run(ctx, stream, nil)
			return err
		}
		require.ErrorIs(t, sent(agentWorld{w, dial, "wrong", true}), agent.ErrToken, "the agent was asked")
		for _, m := range []env.Mesh{w, agentWorld{w, dial, "wrong", false}} {
			c := newConductor(Options{}, nil)
			c.mesh = m
			require.IsType(t, ownLoader{}, c.loader())
		}
		cancel()
		require.NoError(t, <-served)
	})
}

// A pod that is about to end has said its last word, and is still there when the run looks.
func TestASidecarThatIsAboutToGo(t *testing.T) {
	for fault, verdict := range map[string]Verdict{"scale: {service: frontend, replicas: 1}": Passed, "scale: {service: backend, replicas: 1}": Invalid} {
		in(t, func(t *testing.T, w *world) {
			w.disrupt = func(d env.Disruption) ([]string, func(context.Context) error, error) {
				return []string{d.Service + "-v1"}, nil, nil
			}
			came, ended := false, false
			w.each = func(now time.Duration) {
				switch {
				case now > 6*time.Second && !came:
					came = true
					w.join(frontend("frontend-v1-2"))
				case now > 16*time.Second && !ended:
					ended = true
					w.bye("frontend-v1-2")
				}
			}
			o := w.perform(t.Context(), disrupted(fault))
			require.Equal(t, verdict, o.Verdict, o.Reason)
			if verdict == Invalid {
				require.Contains(t, o.failedCheck(t, "evidence"), "frontend-v1-2 ended its evidence")
			}
		})
	}
}
