package run

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/analyzer"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/rollout"
	"meshtest.dev/meshtest/spec"
)

// The worst finding decides, and nothing found is nothing shown.
func TestWeigh(t *testing.T) {
	t.Parallel()
	all := []Verdict{Aborted, Invalid, Failed, Inconclusive, Passed}
	for i, worse := range all {
		for _, better := range all[i:] {
			got, _ := weigh([]finding{{better, "b"}, {worse, "w"}, {better, "b"}})
			require.Equal(t, worse, got, "%s and %s", worse, better)
		}
	}
	got, reason := weigh([]finding{{Failed, "a"}, {Passed, "b"}, {Failed, "c"}})
	require.Equal(t, Failed, got)
	require.Equal(t, "a; c", reason)
	got, _ = weigh(nil)
	require.Equal(t, Inconclusive, got)
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for v, code := range map[Verdict]int{Passed: 0, Failed: 1, Inconclusive: 3, Invalid: 4, Aborted: 4} {
		require.Equal(t, code, v.exitCode(), v)
	}
}

func TestOutcomeAgainstExpectation(t *testing.T) {
	t.Parallel()
	tests := []struct {
		got, want rollout.Outcome
		verdict   Verdict
	}{
		{rollout.Promoted, rollout.Promoted, Passed},
		{rollout.RolledBack, rollout.Promoted, Failed},
		{rollout.Paused, rollout.Promoted, Inconclusive},
		{rollout.RolledBack, rollout.RolledBack, Passed},
		{rollout.Promoted, rollout.RolledBack, Failed},
		{rollout.Paused, rollout.RolledBack, Inconclusive},
		{rollout.Paused, rollout.Paused, Passed},
		{rollout.Promoted, rollout.Paused, Failed},
		{rollout.None, rollout.Promoted, Inconclusive},
	}
	for _, tt := range tests {
		require.Equal(t, tt.verdict, judgeOutcome(tt.got, tt.want, rollout.Decide{}).verdict, "%s for %s", tt.got, tt.want)
	}
}

func percent(p spec.Percent) *spec.Percent { return &p }

func TestProportions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		target target
		k, n   uint64
		want   Verdict
	}{
		{"nothing to look at", target{equals: percent(50), confidence: 99.9}, 0, 0, Inconclusive},
		{"all means all", target{equals: percent(100), confidence: 99.9}, 999, 1000, Failed},
		{"all", target{equals: percent(100), confidence: 99.9}, 1000, 1000, Passed},
		{"none means none", target{equals: percent(0), confidence: 99.9}, 1, 1000, Failed},
		{"within chance", target{equals: percent(34.3), confidence: 99.9}, 820, 2400, Passed},
		{"beyond chance", target{equals: percent(34.3), confidence: 99.9}, 720, 2400, Failed},
		{"at least", target{min: percent(99)}, 989, 1000, Failed},
		{"at least, held", target{min: percent(99)}, 990, 1000, Passed},
		{"at most", target{max: percent(1)}, 11, 1000, Failed},
	}
	for _, tt := range tests {
		got := tt.target.compare("requests", tt.k, tt.n)
		require.Equal(t, string(tt.want), got.Verdict, "%s: %s", tt.name, got.Reason)
		require.NotEmpty(t, got.Reason)
	}
}

func TestWindows(t *testing.T) {
	t.Parallel()
	bySteps := plan.Window{FromStep: 2, UntilStep: 4}
	for step, want := range []bool{false, false, true, true, false} {
		require.Equal(t, want, opens(bySteps, time.Hour, step), "step %d", step)
	}
	byTime := plan.Window{Start: time.Second, End: 3 * time.Second}
	for at, want := range map[time.Duration]bool{0: false, time.Second: true, 2 * time.Second: true, 3 * time.Second: false} {
		require.Equal(t, want, opens(byTime, at, 0), at)
	}
	next, ok := nextChange(byTime, 0)
	require.True(t, ok)
	require.Equal(t, time.Second, next)
	next, ok = nextChange(byTime, time.Second)
	require.True(t, ok)
	require.Equal(t, 3*time.Second, next)
	_, ok = nextChange(byTime, 3*time.Second)
	require.False(t, ok)
}

// nobody takes leases.
type nobody struct{ leaseholder }

// saboteurFault is a fault of which the executor tells the given account.
func saboteurFault(a mesh.Accounting) (*conductor, *faultRun) {
	c := newConductor(Options{Plan: &plan.Plan{}}, nil)
	f := newFaultRun(plan.Fault{
		Fault:      mesh.Fault{ID: "f", From: "a", To: "b", At: mesh.AtRequest, Abort: &mesh.Abort{Status: 503, Share: .1}},
		MinMatched: 1,
	})
	m := &member{Sidecar: env.Sidecar{Workload: mesh.Workload{Service: "a", Namespace: "default", Instance: "a-v1-1"}}, holder: nobody{}, source: &source{}}
	c.members = []*member{m}
	f.ever = true
	f.accounts[m], f.asked[m], f.settled[m] = a, true, true
	c.faults = []*faultRun{f}
	return c, f
}

func TestAFaultHasToHaveDoneWhatItSays(t *testing.T) {
	t.Parallel()
	seen := func(c *conductor, byFault uint64) {
		c.tally.cells[tallyKey{edge: mesh.Edge{From: "a", To: "b"}}] = &tallied{requests: 1000, byFault: byFault}
	}
	tests := []struct {
		name    string
		account mesh.Accounting
		seen    uint64
		break_  func(*faultRun)
		reason  string
	}{
		{name: "it did", account: mesh.Accounting{State: mesh.LeaseReleased, Matched: 1000, Aborted: 98}, seen: 98},
		{name: "nothing to act on", account: mesh.Accounting{State: mesh.LeaseReleased}, reason: "matched 0 requests"},
		{name: "does nothing", account: mesh.Accounting{State: mesh.LeaseReleased, Matched: 1000}, reason: "aborted 0 of 1000"},
		{name: "says more than callers saw", account: mesh.Accounting{State: mesh.LeaseReleased, Matched: 1000, Aborted: 98}, seen: 0, reason: "callers saw 0"},
		{name: "far too often", account: mesh.Accounting{State: mesh.LeaseReleased, Matched: 1000, Aborted: 300}, seen: 300, reason: "aborted 300 of 1000"},
		{name: "residue", account: mesh.Accounting{State: mesh.LeaseReleased, Matched: 1000, Aborted: 98, Active: 1}, seen: 98, reason: "outlived"},
		{
			name: "lapsed", account: mesh.Accounting{State: mesh.LeaseLapsed, Matched: 1000, Aborted: 98}, seen: 98,
			break_: func(f *faultRun) { f.lapsed = "a-v1-1" }, reason: "lapsed",
		},
		{
			name: "never released", account: mesh.Accounting{State: mesh.LeaseHeld, Matched: 1000, Aborted: 98}, seen: 98,
			break_: func(f *faultRun) { clear(f.settled) }, reason: "not known to be over",
		},
	}
	for _, tt := range tests {
		c, f := saboteurFault(tt.account)
		seen(c, tt.seen)
		if tt.break_ != nil {
			tt.break_(f)
		}
		reason, ok := c.checkFault(f)
		require.Equal(t, tt.reason == "", ok, "%s: %s", tt.name, reason)
		require.Contains(t, reason, tt.reason, tt.name)
	}
}

// Callers cannot tell one fault of an edge from another.
func TestTwoFaultsOnOneEdgeAddUp(t *testing.T) {
	t.Parallel()
	c, f := saboteurFault(mesh.Accounting{State: mesh.LeaseReleased, Matched: 1000, Aborted: 98})
	g := newFaultRun(f.Fault)
	g.ever = true
	g.accounts[c.members[0]], g.settled[c.members[0]] = mesh.Accounting{State: mesh.LeaseReleased, Matched: 902, Aborted: 90}, true
	c.faults = append(c.faults, g)
	c.tally.cells[tallyKey{edge: mesh.Edge{From: "a", To: "b"}}] = &tallied{requests: 1000, byFault: 188}
	for _, one := range c.faults {
		reason, ok := c.checkFault(one)
		require.True(t, ok, reason)
	}
}

// A fault that had few requests to act on may have spared them all.
func TestAFaultMayDoNothingByChance(t *testing.T) {
	t.Parallel()
	c, f := saboteurFault(mesh.Accounting{State: mesh.LeaseReleased, Matched: 43})
	f.Abort.Share = .01
	reason, ok := c.checkFault(f)
	require.True(t, ok, reason)
}

func TestOnlyTheRolloutsOwnRoutesAreItsSplit(t *testing.T) {
	t.Parallel()
	c := newConductor(Options{Plan: &plan.Plan{Rollout: &plan.Rollout{Stable: "prod", Canary: "canary"}}}, nil)
	edge := mesh.Edge{From: "a", To: "b"}
	c.edge = &analyzer.Edge{Edge: edge}
	c.splits.routes = []string{"primary"}
	g := mesh.Generation{Epoch: 1, Counter: 1}
	c.splits.asked = []asked{{g, .05}}
	cells := []mesh.EvidenceCell{
		{Edge: edge, Route: "primary", Version: "prod", Share: .95, Generation: g, Requests: 950},
		{Edge: edge, Route: "primary", Version: "canary", Share: .05, Generation: g, Requests: 50},
		{Edge: edge, Route: "pinned", Version: "prod", Share: 1, Generation: g, Requests: 400},
	}
	require.NoError(t, c.watchSplit(mesh.EvidenceBlock{Cells: cells}))
	reason, ok := c.checkSplit()
	require.True(t, ok, reason)
	cells[0].Version, cells[1].Version = "canary", "prod"
	require.NoError(t, c.watchSplit(mesh.EvidenceBlock{Cells: cells}))
	_, ok = c.checkSplit()
	require.False(t, ok, "swapped versions")
}

func TestASilentLoadIsFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		result *load.Result
		ok     bool
	}{
		{"all was sent", &load.Result{Scheduled: 100, Summary: load.Summary{Sent: 100, Completed: 100}}, true},
		{"sent nothing", &load.Result{Scheduled: 100}, false},
		{"had nothing to send", &load.Result{}, false},
		{"fell behind", &load.Result{Scheduled: 100, Summary: load.Summary{Sent: 97, Completed: 97}}, false},
		{"no answer", &load.Result{Scheduled: 100, Summary: load.Summary{Sent: 100}}, false},
		{"never ended", nil, false},
	}
	for _, tt := range tests {
		c := newConductor(Options{Plan: &plan.Plan{}}, nil)
		c.loads = []*streamRun{{Stream: plan.Stream{Name: "users"}, result: tt.result}}
		reason, ok := c.checkLoad()
		require.Equal(t, tt.ok, ok, "%s: %s", tt.name, reason)
	}
	c := newConductor(Options{Plan: &plan.Plan{}}, nil)
	_, ok := c.checkLoad()
	require.False(t, ok, "no load at all")
}

func TestSplitIsComparedWithWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	var s splitCheck
	g := func(n uint64) mesh.Generation { return mesh.Generation{Epoch: 1, Counter: n} }
	s.asked = []asked{{g(2), .05}, {g(5), .25}}
	require.Zero(t, s.want(g(1)))
	require.InDelta(t, .05, s.want(g(2)), 0)
	require.InDelta(t, .05, s.want(g(4)), 0)
	require.InDelta(t, .25, s.want(g(9)), 0)
}

func TestCredentialsAreHidden(t *testing.T) {
	t.Parallel()
	text := redact(`env: {DB_PASSWORD: hunter2, API_TOKEN: "abc def", OTHER: kept1}
url: http://me:letmein@host/
redis: redis://:onlypw@host/
secretRef:   xyz
headers: {Authorization: Bearer abc.def.ghi, x-dev-user: super-secret}
authorization: Basic dXNlcjpwYXNz
DB_PASS: qwerty
command: [server, --token, tok123, --port, "80"]
other: [server, "--api-key=key123"]
password: >-
  correct horse
  battery staple
plain: kept2
`)
	for _, secret := range []string{"hunter2", "abc def", "letmein", "onlypw", "xyz", "abc.def", "ghi", "dXNlc", "qwerty", "tok123", "key123", "horse", "staple"} {
		require.NotContains(t, text, secret)
	}
	for _, kept := range []string{"kept1", "kept2", "@host/", "x-dev-user: super-secret", "--port"} {
		require.Contains(t, text, kept)
	}
}

// An override names what it sets, and that may be a credential.
func TestCredentialsInOverridesAreHidden(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"services.a.versions.v1.env.DB_PASSWORD=[redacted]", "services.a.versions.v1.run.image=registry/a:1", "load[0].path=http://[redacted]@host/"},
		redactSets([]string{"services.a.versions.v1.env.DB_PASSWORD=hunter2", "services.a.versions.v1.run.image=registry/a:1", "load[0].path=http://me:letmein@host/"}))
}

func TestTimeoutsAreFilledUp(t *testing.T) {
	t.Parallel()
	got := Timeouts{Heal: time.Hour}.or(localTimeouts)
	require.Equal(t, time.Hour, got.Heal)
	require.Equal(t, localTimeouts.Down, got.Down)
	require.Equal(t, localTimeouts.Up, got.Up)
}
