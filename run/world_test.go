package run

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/test/bufconn"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/journal"
	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

// world is an environment without processes, for tests under a clock of their own: its sidecars tell evidence and take leases over real connections in memory, and its load counts requests
// instead of sending them.
type world struct {
	t  *testing.T
	mu sync.Mutex

	deployment env.Deployment
	sidecars   []*fakeSidecar // all that ever were
	changes    []env.Member
	changed    chan struct{} // closed and replaced at every change
	table      *mesh.RouteTable
	generation mesh.Generation
	progress   []wire.Progress
	living     sync.WaitGroup
	end        context.CancelFunc
	life       context.Context

	// what a test makes of it
	upErr      error
	away       time.Duration                                                                    // how long the control plane takes to answer
	deaf       map[string]bool                                                                  // instances that never acknowledge
	disrupt    func(env.Disruption) (hit []string, heal func(context.Context) error, err error) // nil: it cannot
	runJob     func(objects []byte, log io.Writer) error                                        // nil: it runs none
	prometheus Querier
	late       func(seq uint64) time.Duration // of a request of the load; nil: none is
	begins     func()                         // called before the first request of the load
	each       func(now time.Duration)        // called ten times a second while load flows
	ups, downs int
	disrupted  []env.Disruption
}

const beat = 100 * time.Millisecond

func newWorld(t *testing.T) *world {
	return &world{t: t, changed: make(chan struct{}), deaf: map[string]bool{}, generation: mesh.Generation{Epoch: 7, Counter: 1}}
}

func (w *world) Name() string                 { return spec.EnvLocal }
func (w *world) Capabilities() capability.Set { return nil }

func (w *world) Up(_ context.Context, d env.Deployment, watch env.Watcher) (env.Mesh, error) {
	w.ups++
	if w.upErr != nil {
		return nil, w.upErr
	}
	w.deployment = d
	w.life, w.end = context.WithCancel(context.Background())
	for _, in := range d.Snapshot.Inbound {
		w.join(in.Workload)
	}
	for _, program := range d.Workloads {
		watch.Process(env.Process{Name: program.Instance, State: env.ProcessReady})
	}
	for _, table := range d.Snapshot.Routes {
		if strings.HasPrefix(table.Host, "backend.") {
			w.table = table
		}
	}
	switch {
	case w.disrupt != nil:
		return disruptableWorld{w}, nil
	case w.runJob != nil:
		return workingWorld{w}, nil
	default:
		return w, nil
	}
}

// workingWorld is a world that runs jobs.
type workingWorld struct{ *world }

func (w workingWorld) RunJob(_ context.Context, objects []byte, log io.Writer) error {
	return w.runJob(objects, log)
}

// disruptableWorld is a world that can be broken.
type disruptableWorld struct{ *world }

func (w disruptableWorld) Disrupt(_ context.Context, d env.Disruption) ([]string, func(context.Context) error, error) {
	w.disrupted = append(w.disrupted, d)
	return w.disrupt(d)
}

// join adds a sidecar.
func (w *world) join(workload mesh.Workload) *fakeSidecar {
	w.mu.Lock()
	defer w.mu.Unlock()
	life, stop := context.WithCancel(w.life)
	s := &fakeSidecar{
		world: w, workload: workload, began: time.Now(), stop: stop, wire: bufconn.Listen(1 << 16), http: bufconn.Listen(1 << 16),
		more: make(chan struct{}), moved: make(chan struct{}), leases: map[string]mesh.Fault{}, accounts: map[string]mesh.Accounting{},
	}
	w.sidecars = append(w.sidecars, s)
	server := &http.Server{Handler: http.HandlerFunc(s.metrics)}
	w.living.Go(func() {
		_ = wire.ServeDirect(life, s.wire, func(token string) bool { return token == "token" }, s, s, s)
	})
	w.living.Go(func() { _ = server.Serve(s.http) })
	w.living.Go(func() {
		s.run(life)
		<-life.Done()
		_ = server.Close()
		_ = s.wire.Close()
	})
	w.tell(env.Member{Sidecar: s.sidecar()})
	return s
}

func (w *world) tell(m env.Member) {
	w.changes = append(w.changes, m)
	close(w.changed)
	w.changed = make(chan struct{})
}

// leave removes a sidecar without a goodbye.
func (w *world) leave(instance, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.find(instance)
	s.stop()
	w.sidecars = slices.DeleteFunc(w.sidecars, func(other *fakeSidecar) bool { return other == s })
	w.tell(env.Member{Sidecar: s.sidecar(), Gone: true, Reason: reason})
}

// bye has a sidecar say its last word: its pod is about to end, and has not yet.
func (w *world) bye(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.find(instance)
	s.ended = true
	_ = s.http.Close()
	close(s.more)
	s.more = make(chan struct{})
}

func (w *world) find(instance string) *fakeSidecar {
	i := slices.IndexFunc(w.sidecars, func(s *fakeSidecar) bool { return s.workload.Instance == instance })
	require.GreaterOrEqual(w.t, i, 0, instance)
	return w.sidecars[i]
}

// call counts n requests of a stream from one of a service's sidecars to another service; the caller holds the mutex. Requests are dealt out among versions as the table says, and what is
// left over is owed, as is what finds nobody there.
func (w *world) call(from, to, stream string, n int, owed map[string]float64) {
	callers, callees := w.of(from), w.of(to)
	waiting := from + to + "waiting"
	if len(callers) == 0 || len(callees) == 0 {
		owed[waiting] += float64(n)
		return
	}
	n += int(owed[waiting])
	owed[waiting] = 0
	split := []mesh.Destination{{Weight: 1}}
	route := "default"
	if to == "backend" {
		route, split = w.table.Routes[len(w.table.Routes)-1].Name, w.table.Routes[len(w.table.Routes)-1].Split
	}
	var sum float64
	for _, d := range split {
		sum += float64(d.Weight)
	}
	for _, d := range split {
		version := d.Subset
		if version == "" {
			version = callees[0].workload.Version
		}
		share := float64(d.Weight) / sum
		owed[from+to+version] += share * float64(n)
		for i := 0; owed[from+to+version] >= 1; i++ {
			owed[from+to+version]--
			caller := callers[i%len(callers)]
			caller.one(mesh.Edge{From: from, To: to}, stream, route, version, share, i)
		}
	}
}

// of are the sidecars of a service, or of the edge.
func (w *world) of(service string) []*fakeSidecar {
	var all []*fakeSidecar
	for _, s := range w.sidecars {
		if executorName(s.workload) == service {
			all = append(all, s)
		}
	}
	return all
}

// Run is the load: it counts.
func (w *world) Run(ctx context.Context, s load.Stream, sink func(load.Record)) (*load.Result, error) {
	result := &load.Result{Stream: s.Name, Start: time.Now()}
	result.Statuses = map[int]uint64{}
	owed := map[string]float64{}
	if w.begins != nil {
		w.begins()
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for ctx.Err() == nil && (s.Duration == 0 || time.Since(result.Start) < s.Duration) {
		select {
		case <-ticker.C:
			now := time.Since(result.Start)
			due := load.Count(s.Pacer, now)
			n := int(due - result.Sent)
			w.mu.Lock()
			w.call("edge", "frontend", s.Name, n, owed)
			w.call("frontend", "backend", s.Name, n, owed)
			w.mu.Unlock()
			for range n {
				sent := now
				if w.late != nil {
					sent += w.late(result.Sent)
				}
				record := load.Record{Seq: result.Sent, Intended: now, Sent: sent, Done: sent + 8*time.Millisecond, Status: 200, OK: true}
				result.Add(record)
				sink(record)
			}
			result.Scheduled = due
			if w.each != nil {
				w.each(now)
			}
		case <-ctx.Done():
		}
	}
	result.End = time.Since(result.Start)
	result.Elapsed, result.Scheduled = result.End, result.Sent
	return result, nil
}

func (w *world) Configure(ctx context.Context, routes ...*mesh.RouteTable) (wire.Applied, error) {
	if w.away > 0 {
		timer := time.NewTimer(w.away)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return wire.Applied{}, context.Cause(ctx)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.generation.Counter++
	w.table = routes[0]
	var affected []string
	for _, s := range w.of("frontend") {
		affected = append(affected, s.workload.Instance)
		if !w.deaf[s.workload.Instance] {
			w.progress = append(w.progress, wire.Progress{Generation: w.generation, Instance: s.workload.Instance, State: wire.Acked})
		}
	}
	return wire.Applied{Generation: w.generation, Affected: affected}, nil
}

func (w *world) Progress(ctx context.Context, each func(wire.Progress)) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.mu.Lock()
			told := w.progress
			w.progress = nil
			w.mu.Unlock()
			for _, p := range told {
				each(p)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *world) Sidecars() []env.Sidecar {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []env.Sidecar
	for _, s := range w.sidecars {
		all = append(all, s.sidecar())
	}
	return all
}

func (w *world) Follow(ctx context.Context, each func(env.Member)) error {
	for told := 0; ; {
		w.mu.Lock()
		news, changed := w.changes[told:], w.changed
		w.mu.Unlock()
		for _, m := range news {
			each(m)
		}
		told += len(news)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *world) Entry(string, int) (string, bool) { return "127.0.0.1:1", true }
func (w *world) Token() string                    { return "token" }
func (w *world) Usage() map[string]env.Usage      { return map[string]env.Usage{} }
func (w *world) Failed() <-chan error             { return nil }

func (w *world) Diagnose(_ context.Context, dir string) ([]string, error) {
	return []string{"edge: all is lost"}, os.WriteFile(filepath.Join(dir, "edge.stats"), []byte("1"), 0o644)
}

func (w *world) Down(context.Context) error {
	w.downs++
	w.end()
	w.living.Wait()
	return nil
}

const job = `apiVersion: batch/v1
kind: Job
metadata: {name: job}
`

// outcome is a run that has ended.
type outcome struct {
	Result
	out    string
	states *journal.Log
}

// perform runs a scenario in the world.
func (w *world) perform(ctx context.Context, scenario string, sets ...string) outcome {
	w.t.Helper()
	files := fstest.MapFS{"world.yaml": {Data: []byte(scenario)}, "job.yaml": {Data: []byte(job)}}
	s, problems := spec.LoadFS(files, "world.yaml", spec.Options{Sets: sets})
	require.NoError(w.t, problems.Err())
	p, problems := plan.New(s, plan.Options{Environment: s.Environments[0], Seed: 42})
	require.NoError(w.t, problems.Err())
	out := w.t.TempDir()
	result, err := Run(ctx, Options{ID: "r-test", Plan: p, Environment: w, Dir: w.t.TempDir(), Out: out, Version: "test", Prometheus: w.prometheus, sender: w})
	require.NoError(w.t, err)
	file, err := os.Open(filepath.Join(out, journal.StatesFile))
	require.NoError(w.t, err)
	defer file.Close()
	states, err := journal.Read(file)
	require.NoError(w.t, err)
	require.Empty(w.t, states.Damage)
	return outcome{result, out, states}
}

// events are the journal's events of a kind, in order.
func events[T journal.Event](t *testing.T, log *journal.Log) []T {
	t.Helper()
	var zero T
	var all []T
	for _, e := range log.Entries {
		if e.Kind == zero.Kind() {
			var one T
			require.NoError(t, e.Decode(&one))
			all = append(all, one)
		}
	}
	return all
}

// failedCheck is the self-check of a name that did not hold.
func (o outcome) failedCheck(t *testing.T, name string) string {
	t.Helper()
	for _, c := range events[journal.SelfCheck](t, o.states) {
		if c.Name == name && !c.OK {
			return c.Reason
		}
	}
	require.Fail(t, "the self-check held", "%s; %s: %s", name, o.Verdict, o.Reason)
	return ""
}

func (o outcome) faultStates(t *testing.T, id string) []string {
	t.Helper()
	var states []string
	for _, f := range events[journal.Fault](t, o.states) {
		if f.ID == id {
			states = append(states, f.State)
		}
	}
	return states
}
