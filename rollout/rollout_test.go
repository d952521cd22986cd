package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer"
)

func weight(w float64) Step      { return Step{Weight: &w} }
func pause(d time.Duration) Step { return Step{Pause: &Pause{For: d}} }
func header(name, value string) Step {
	route := &HeaderRoute{Name: name}
	if value != "" {
		route.Match = []HeaderMatch{{Name: "x-dev-user", Exact: &value}}
	}
	return Step{Header: route}
}

// transcript feeds inputs, one a line ("SECONDS VERDICT [converging] [canary=N]"), and prints each with its effects.
func transcript(m *Machine, inputs string) string {
	var out strings.Builder
	for line := range strings.Lines(strings.TrimSpace(inputs)) {
		var in Input
		fields := strings.Fields(line)
		seconds, err := time.ParseDuration(fields[0])
		if err != nil {
			panic(err)
		}
		in.Now, in.Converged = seconds, true
		in.Judgement.Verdict, in.Judgement.Reason = analyzer.Verdict(fields[1]), "because "+fields[1]
		for _, f := range fields[2:] {
			if f == "converging" {
				in.Converged = false
			}
			if n, ok := strings.CutPrefix(f, "canary="); ok {
				_, _ = fmt.Sscan(n, &in.Judgement.CanaryRequests)
			}
		}
		fmt.Fprintf(&out, "%s\n", strings.Join(fields, " "))
		for _, e := range m.Step(in) {
			fmt.Fprintf(&out, "  %s\n", describe(e))
		}
	}
	return out.String()
}

func describe(e Effect) string {
	switch e := e.(type) {
	case Route:
		names := []string{}
		for _, h := range e.Split.Headers {
			names = append(names, h.Name)
		}
		return fmt.Sprintf("route %g%% %v", e.Split.Weight, names)
	case Enter:
		return fmt.Sprintf("enter %d", e.Index)
	case Leave:
		return strings.TrimSpace(fmt.Sprintf("leave %d %s", e.Index, e.Cut))
	case Decide:
		return fmt.Sprintf("decide %s: %s", e.Outcome, e.Reason)
	case Finish:
		return fmt.Sprintf("finish %s", e.Outcome)
	}
	return "?"
}

func TestTranscripts(t *testing.T) {
	steps := []Step{header("testers", "me"), pause(2 * time.Second), weight(5), pause(3 * time.Second), weight(50), pause(3 * time.Second)}
	tests := []struct {
		name   string
		config Config
		inputs string
		want   string
	}{
		{
			name:   "a good canary goes all the way, and time counts from convergence",
			config: Config{WarmUp: time.Second, Steps: steps, Patience: 5 * time.Second},
			inputs: `
0s noData
0.1s noData converging
0.2s noData
1.1s noData
1.2s noData
1.3s noData converging
1.5s undecided
3.4s undecided
3.5s undecided
3.6s undecided
6.6s undecided
6.7s good
9.7s good
9.8s good converging
9.9s good
10s good
`,
			want: `
0s noData
  route 0% []
0.1s noData converging
0.2s noData
1.1s noData
1.2s noData
  enter 1
  route 0% [testers]
1.3s noData converging
1.5s undecided
  leave 1
  enter 2
3.4s undecided
3.5s undecided
  leave 2
  enter 3
  route 5% [testers]
3.6s undecided
  leave 3
  enter 4
6.6s undecided
  leave 4
  enter 5
  route 50% [testers]
6.7s good
  leave 5
  enter 6
9.7s good
  leave 6
  decide promoted: because good
  route 100% []
9.8s good converging
9.9s good
  finish promoted
10s good
`,
		},
		{
			name:   "a bad judgement rolls back at once, even before the split has converged",
			config: Config{Steps: steps, Patience: time.Second},
			inputs: `
0s noData
0.1s noData
0.2s bad converging
0.3s bad converging
0.4s undecided
`,
			want: `
0s noData
  route 0% []
0.1s noData
  enter 1
  route 0% [testers]
0.2s bad converging
  leave 1 because bad
  decide rolledBack: because bad
  route 0% []
0.3s bad converging
0.4s undecided
  finish rolledBack
`,
		},
		{
			name:   "too little evidence holds the last step, then pauses with the split as it is",
			config: Config{Steps: []Step{weight(10), pause(time.Second)}, Patience: 2 * time.Second},
			inputs: `
0s noData
0s noData
0s undecided
1s undecided
2s undecided
3s undecided
`,
			want: `
0s noData
  route 0% []
0s noData
  enter 1
  route 10% []
0s undecided
  leave 1
  enter 2
1s undecided
  leave 2
2s undecided
3s undecided
  decide paused: not enough evidence to promote: because undecided
  finish paused
`,
		},
		{
			name:   "evidence that comes while holding promotes",
			config: Config{Steps: []Step{weight(10)}, Patience: 9 * time.Second},
			inputs: "0s noData\n0s noData\n0s undecided\n4s good\n4s good",
			want: `
0s noData
  route 0% []
0s noData
  enter 1
  route 10% []
0s undecided
  leave 1
4s good
  decide promoted: because good
  route 100% []
4s good
  finish promoted
`,
		},
		{
			name:   "an indefinite pause waits for a human",
			config: Config{Steps: []Step{weight(10), pause(0), weight(50)}},
			inputs: "0s noData\n0s noData\n0s good\n1s good",
			want: `
0s noData
  route 0% []
0s noData
  enter 1
  route 10% []
0s good
  leave 1
  enter 2
  decide paused: step 2 waits for a human
  finish paused
1s good
`,
		},
		{
			name: "an analysis step waits for requests, within its time",
			config: Config{Steps: []Step{
				{Analysis: &Analysis{MinRequests: 10, Timeout: 5 * time.Second}},
				{Analysis: &Analysis{MinRequests: 20, Timeout: 5 * time.Second}},
			}},
			inputs: "0s noData\n0s undecided\n1s undecided canary=9\n2s undecided canary=10\n7s undecided canary=19",
			want: `
0s noData
  route 0% []
0s undecided
  enter 1
1s undecided canary=9
2s undecided canary=10
  leave 1
  enter 2
7s undecided canary=19
  decide paused: step 2: the canary had 19 of 20 requests after 5s
  finish paused
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, strings.TrimSpace(tt.want), strings.TrimSpace(transcript(New(tt.config), tt.inputs)))
		})
	}
}

func TestDeadlineIsWhenTheMachineActsByItself(t *testing.T) {
	t.Parallel()
	m := New(Config{WarmUp: time.Second, Steps: []Step{weight(5), pause(3 * time.Second)}, Patience: 2 * time.Second})
	_, ok := m.Deadline()
	require.False(t, ok, "it has not begun")
	m.Step(Input{})
	m.Step(Input{Now: time.Second, Converged: true})
	at, ok := m.Deadline()
	require.True(t, ok)
	require.Equal(t, 2*time.Second, at)
	m.Step(Input{Now: at, Converged: true})
	_, ok = m.Deadline()
	require.False(t, ok, "a new split is on its way")
	m.Step(Input{Now: 3 * time.Second, Converged: true})
	at, ok = m.Deadline()
	require.True(t, ok)
	require.Equal(t, 6*time.Second, at)
}

func TestHeaderRoutesReplaceAndRemove(t *testing.T) {
	t.Parallel()
	routes := withHeader(nil, *header("a", "1").Header)
	routes = withHeader(routes, *header("b", "1").Header)
	routes = withHeader(routes, *header("a", "2").Header)
	require.Len(t, routes, 2)
	require.Equal(t, "2", *routes[0].Match[0].Exact)
	routes = withHeader(routes, *header("a", "").Header)
	require.Len(t, routes, 1)
	require.Equal(t, "b", routes[0].Name)
}
