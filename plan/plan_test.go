package plan_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

var update = flag.Bool("update", false, "rewrite golden files")

func load(t *testing.T, file string, sets ...string) *spec.Scenario {
	t.Helper()
	s, diags := spec.Load(file, spec.Options{Sets: sets})
	require.Empty(t, diags)
	return s
}

func planOf(t *testing.T, file string, sets ...string) *plan.Plan {
	t.Helper()
	p, diags := plan.New(load(t, file, sets...), plan.Options{Seed: 42})
	require.NoError(t, diags.Err())
	return p
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func indented(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	require.NoError(t, err)
	return string(b) + "\n"
}

func TestPlans(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			p := planOf(t, file)
			base := strings.TrimSuffix(file, ".yaml")
			golden(t, base+".golden", p.String())
			golden(t, base+".plan.json", indented(t, p))
			golden(t, base+".snapshot.json", indented(t, p.Snapshot))
			require.Empty(t, p.Snapshot.Validate())
			require.Equal(t, p, planOf2(t, p), "a plan is a function of its inputs")
		})
	}
}

func planOf2(t *testing.T, p *plan.Plan) *plan.Plan {
	t.Helper()
	again, _ := plan.New(p.Scenario, plan.Options{Seed: p.Seed, Environment: p.Environment})
	return again
}

// The snapshot is whole but for what only an environment knows.
func TestSnapshotIsATemplate(t *testing.T) {
	t.Parallel()
	p := planOf(t, "testdata/promote.yaml")
	snap := p.Snapshot
	require.Len(t, snap.Inbound, 5, "four instances and the edge")
	edge := snap.Inbound[plan.EdgeInstance]
	require.True(t, edge.Trusted)
	require.Equal(t, []mesh.OutboundPort{{Host: "frontend.default.svc.cluster.local", Port: 8080, Protocol: mesh.HTTP}}, edge.Outbound)
	require.Empty(t, edge.Listen)
	in := snap.Inbound["middleware-canary-1"]
	require.Equal(t, mesh.Workload{
		Name: "middleware-canary", Namespace: "default", Service: "middleware", Version: "canary", Instance: "middleware-canary-1",
		Identity: "spiffe://cluster.local/ns/default/sa/middleware", Labels: mesh.Labels{"app": "middleware", "version": "canary"},
	}, in.Workload)
	require.Equal(t, uint64(42), in.Seed)
	require.Equal(t, []mesh.InboundPort{{Port: 8081, Protocol: mesh.HTTP}}, in.Listen)
	for name, e := range snap.Endpoints {
		require.NotNil(t, snap.Routes[name], "every port has a route table")
		for _, one := range e.Endpoints {
			require.Empty(t, one.Address)
			require.Zero(t, one.Port)
			require.NotEmpty(t, one.Instance)
		}
	}
	require.True(t, snap.Services["time.default.svc.cluster.local"].External)
	require.Nil(t, snap.Inbound["time-1"], "no sidecar outside the mesh")
	require.Equal(t, "backend", p.Workload("backend-v1").Service)
	require.Nil(t, p.Workload("none"))
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file    string
		options plan.Options
		edit    [2]string
		want    string
	}{
		"environment": {"no-rollout", plan.Options{Environment: "kind"}, [2]string{}, `MT1404 environments: the scenario does not run in kind`},
		"capability": {"no-rollout", plan.Options{Environment: "local", Capabilities: capability.Of(capability.HTTP, capability.Command)}, [2]string{},
			`MT1401 services.backend.versions.v1.run: the environment local cannot do this: fixture: backend-v1 runs the fixture chain`},
		"privileged port": {"no-rollout", plan.Options{Environment: "local", Capabilities: capability.Of(capability.HTTP, capability.Fixture)}, [2]string{"port: 8082", "port: 80"},
			`MT1401 services.backend.port: the environment local cannot do this: privileged-ports: service backend listens on port 80`},
		"no caller":       {"no-traffic", plan.Options{}, [2]string{`{UPSTREAM_URI: "${service.middleware.url}"}`, "{}"}, `MT1403 rollout: nothing calls middleware, so there is no view to judge`},
		"several callers": {"weak", plan.Options{}, [2]string{"target: backend", "target: middleware"}, `MT1403 rollout: middleware has several callers (edge, frontend), and one view must be judged`},
		"rules":           {"own-rules", plan.Options{}, [2]string{"subset: next", "subset: nxt"}, `MT1305 rules[1].spec.http[1].route[0].destination.subset: middleware has no subset "nxt"`},
		"rules, field":    {"own-rules", plan.Options{}, [2]string{"timeout: 2s", "delegate: {}"}, `MT1303 rules[1].spec.http[1].delegate: delegate is not honoured yet`},
		"another split": {"own-rules", plan.Options{}, [2]string{"weight: 20}", "weight: 20}\n            - {destination: {host: backend}, weight: 0}"},
			`MT1402 rules: the roll-out of middleware cannot split its requests: the route main splits between more than the two versions`},
		"no split": {"own-rules", plan.Options{}, [2]string{"- {destination: {host: middleware, subset: next}, weight: 20}\n            - {destination: {host: middleware, subset: stable}, weight: 80}", "- destination: {host: backend}"},
			`MT1402 rules: the roll-out of middleware cannot split its requests: the route main takes all requests and does not lead to the stable version`},
		"a route's backend": {"gateway-api", plan.Options{}, [2]string{"name: middleware-v2,", "name: middleware-v3,"}, `MT1605 rules[2].spec.rules[0].backendRefs[1].name: no such service: middleware-v3.default.svc.cluster.local`},
		"a version as a parent": {"gateway-api", plan.Options{}, [2]string{"kind: Service, name: middleware}", "kind: Service, name: middleware-v1}"},
			`MT1605 rules: default/middleware/admin of HTTPRoute default/middleware has the parent middleware-v1, which is one version of middleware: callers name the service`},
		"both APIs": {"gateway-api", plan.Options{}, [2]string{"spec: {hosts: [backend],", "spec: {hosts: [middleware],"},
			`MT1606 rules: VirtualService default/backend and HTTPRoute default/middleware are both about middleware.default.svc.cluster.local:8081`},
		"a filter": {"gateway-api", plan.Options{}, [2]string{"type: RequestMirror, requestMirror: {backendRef: {name: backend-v2, port: 8082}, percent: 10}", "type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}"},
			`MT1603 rules[2].spec.rules[0].filters[0].extensionRef: extensionRef is not honoured yet`},
		"a gateway that is not there": {"gateway-api", plan.Options{}, [2]string{"users, gateway: front", "users, gateway: frnt"}, `MT1305 load[0].gateway: the rules have no Gateway "frnt"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("testdata/" + tc.file + ".yaml")
			require.NoError(t, err)
			edited := strings.Replace(string(text), tc.edit[0], tc.edit[1], 1)
			require.True(t, tc.edit[0] == "" || edited != string(text))
			s, diags := spec.Parse("x.yaml", []byte(edited), spec.Options{})
			require.Empty(t, diags)
			p, diags := plan.New(s, tc.options)
			require.Nil(t, p)
			var errors spec.Diagnostics
			for _, d := range diags {
				if d.Severity == spec.SeverityError {
					errors = append(errors, d)
				}
			}
			require.Len(t, errors, 1)
			_, got, _ := strings.Cut(errors[0].String(), ": ")
			require.Equal(t, tc.want, got)
			require.NotZero(t, errors[0].Line)
			require.NotEmpty(t, errors[0].Hint)
		})
	}
}

// An HTTPRoute names versions as Services, and a roll-out shifts between them what it shifts between subsets.
func TestARolloutOfHTTPRoutes(t *testing.T) {
	t.Parallel()
	p := planOf(t, "testdata/gateway-api.yaml")
	table := p.Snapshot.Routes["middleware.default.svc.cluster.local:8081"]
	split := p.Rollout.Split
	require.Equal(t, []string{"default/middleware/split"}, split.Routes(table))
	shifted := split.WithHeaderRoute(split.WithWeights(table, 30), "testers", []mesh.Match{{Headers: map[string]mesh.HeaderTest{"x-user": {Present: true}}}})
	require.Equal(t, "testers", shifted.Routes[0].Name)
	require.Equal(t, table.Routes[1].Mirrors, shifted.Routes[0].Mirrors, "like the weighted route but for its destination")
	require.Equal(t, []mesh.Destination{
		{Host: split.Host, Subset: "v1", Port: 8081, Weight: 70}, {Host: split.Host, Subset: "v2", Port: 8081, Weight: 30},
	}, shifted.Routes[2].Split)
	p.Snapshot.Routes["middleware.default.svc.cluster.local:8081"] = shifted
	require.Empty(t, p.Snapshot.Validate())
	for host := range p.Snapshot.Services {
		require.NotContains(t, host, "-v", "versions are no services of the mesh")
	}
}

// Who is judged can be said, and then several callers are no trouble.
func TestJudgedCallerCanBeSaid(t *testing.T) {
	t.Parallel()
	p := planOf(t, "testdata/weak.yaml", "load[1].target=middleware", "rollout.from=edge")
	require.Equal(t, mesh.Edge{From: "edge", To: "middleware"}, p.Rollout.Edge)
}

// A set that reaches a rule is to blame for what it breaks there.
func TestProblemsOfRulesNameTheSet(t *testing.T) {
	t.Parallel()
	s := load(t, "testdata/promote.yaml", "rules[0].spec.host=nowhere")
	_, diags := plan.New(s, plan.Options{})
	require.Len(t, diags, 1)
	require.Equal(t, `--set rules[0].spec.host=nowhere: MT1305 rules[0].spec.host: no such service: nowhere.default.svc.cluster.local`, diags[0].String())
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	codes := func(file string, sets ...string) []string {
		var out []string
		for _, w := range planOf(t, "testdata/"+file+".yaml", sets...).Warnings {
			require.Equal(t, spec.SeverityWarning, w.Severity)
			out = append(out, w.Code+" "+w.Path)
		}
		return out
	}
	require.Empty(t, codes("promote"))
	require.Equal(t, []string{"MT1509 "}, codes("no-rollout"))
	require.Equal(t, []string{"MT1501 rollout"}, codes("no-traffic"))
	require.ElementsMatch(t, []string{
		"MT1503 rollout.steps", "MT1503 rollout.steps", "MT1504 timeout", "MT1502 faults[0]", "MT1510 faults[1].window", "MT1505 faults[2]", "MT1508 faults[3].delay.fixedDelay", "MT1506 faults[4]", "MT1507 expect.checks[0].latency.quantile",
	}, codes("weak"))
}

// Needed is the smallest number of flawless requests that shows what has to be shown.
func TestPower(t *testing.T) {
	t.Parallel()
	p := planOf(t, "testdata/promote.yaml")
	require.Equal(t, []plan.Power{{Check: "request-success-rate", Needed: 299, Have: 500, Enough: true}, {Check: "request-duration", Needed: 299, Have: 500, Enough: true}}, p.Rollout.Power)
	require.Empty(t, p.Underpowered())
	weak := planOf(t, "testdata/weak.yaml")
	require.Len(t, weak.Underpowered(), 2)
	require.Equal(t, 29, weak.Rollout.Power[1].Needed, "0.9^29 < 5 %")
	none := planOf(t, "testdata/no-rollout.yaml")
	require.Empty(t, none.Underpowered())
}

func TestWindows(t *testing.T) {
	t.Parallel()
	p := planOf(t, "testdata/promote.yaml")
	require.Equal(t, plan.Window{FromStep: 3, UntilStep: 6, Start: 6 * time.Second, End: 26 * time.Second}, p.Faults[0].Window, "a step that sets a weight lasts until the next one")
	require.InDelta(t, 4400, p.Faults[0].Blast.Matched, 1)
	require.InDelta(t, 220, p.Faults[0].Blast.Affected, 0.1)
	require.InDelta(t, 0.05, p.Faults[0].Blast.Peak, 1e-9)

	paused := planOf(t, "testdata/promote.yaml", "faults[0].window.step=4")
	require.Equal(t, plan.Window{FromStep: 4, UntilStep: 5, Start: 6 * time.Second, End: 12 * time.Second}, paused.Faults[0].Window)
	last := planOf(t, "testdata/promote.yaml", "faults[0].window.step=7")
	require.Equal(t, plan.Window{FromStep: 7, UntilStep: 8, Start: 26 * time.Second, End: 32 * time.Second}, last.Faults[0].Window)
}
