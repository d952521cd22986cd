package discovery

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshtest.dev/meshtest/control"
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/kube/discovery/apitest"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// background runs something until the returned function is called.
func background(t *testing.T, f func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// stand is a control plane that serves on a socket.
type stand struct {
	*Plane
	t     *testing.T
	path  string
	owner *wire.Configuration
	stop  func()
}

func newStand(t *testing.T, a *apitest.API, path string) *stand {
	t.Helper()
	rules, err := TakeOver(t.Context(), a, system)
	require.NoError(t, err)
	plane, err := NewPlane(control.Options{Drain: -1, OwnerToken: "owner", InstanceKey: keyed, Log: silent}, inform(t, a), rules)
	require.NoError(t, err)
	l, err := wire.Listen(path)
	require.NoError(t, err)
	stopServing := background(t, func(ctx context.Context) error { return plane.Server().Serve(ctx, l) })
	stopPlane := background(t, func(ctx context.Context) error {
		if err := plane.Run(ctx); !errors.Is(err, control.ErrReplaced) {
			return err
		}
		return nil
	})
	s := &stand{Plane: plane, t: t, path: path, stop: func() { stopServing(); stopPlane() }}
	s.owner, err = wire.NewConfiguration(wire.Unix(path), "owner")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.owner.Close()) })
	return s
}

func socket(t *testing.T) string {
	dir, err := os.MkdirTemp("", "plane")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "s")
}

// sidecar keeps what it is told, and every update that has content.
type sidecar struct {
	mu         sync.Mutex
	snapshot   *mesh.Snapshot
	generation mesh.Generation
	contents   int
	changed    chan struct{}
}

func (s *sidecar) Apply(u mesh.Update) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(u.Removed)+len(u.Set.Services)+len(u.Set.Endpoints)+len(u.Set.Routes)+len(u.Set.Inbound) > 0 {
		s.contents++
	}
	s.snapshot, s.generation = s.snapshot.Apply(u), u.Generation
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *sidecar) state() (snapshot *mesh.Snapshot, contents int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot, s.contents
}

// until waits for a configuration that is wanted.
func (s *sidecar) until(t *testing.T, wanted func(*mesh.Snapshot, mesh.Generation) bool) {
	t.Helper()
	for {
		s.mu.Lock()
		ok, changed := wanted(s.snapshot, s.generation), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			require.Fail(t, "the test ended")
		}
	}
}

func connect(t *testing.T, path, instance string) *sidecar {
	s := &sidecar{snapshot: mesh.NewSnapshot(), changed: make(chan struct{})}
	hello := wire.Hello{Instance: instance, Token: wire.InstanceToken(keyed, instance)}
	background(t, func(ctx context.Context) error { return wire.Discover(ctx, wire.Unix(path), hello, s, silent) })
	return s
}

func (s *stand) apply(change wire.Change) wire.Applied {
	s.t.Helper()
	applied, err := s.owner.Apply(s.t.Context(), change)
	require.NoError(s.t, err)
	return applied
}

func (s *stand) refused(change wire.Change) []string {
	s.t.Helper()
	_, err := s.owner.Apply(s.t.Context(), change)
	var refused *wire.RefusedError
	require.ErrorAs(s.t, err, &refused)
	return refused.Mistakes
}

func TestWhatHappensInTheClusterArrives(t *testing.T) {
	t.Parallel()
	a := newAPI(newService("web", 80))
	s := newStand(t, a, socket(t))
	w := connect(t, s.path, "p.shop-1")
	endpoints := func(want int) {
		t.Helper()
		w.until(t, func(s *mesh.Snapshot, _ mesh.Generation) bool {
			e := s.Endpoints[hostOf("web")+":80"]
			return e != nil && len(e.Endpoints) == want
		})
	}
	p, q := newPod("p", "web", "v1", "10.0.0.1"), newPod("q", "web", "v2", "10.0.0.2")
	pods, slices := a.CoreV1().Pods(real), a.DiscoveryV1().EndpointSlices(real)
	_, err := pods.Create(t.Context(), p, metav1.CreateOptions{})
	require.NoError(t, err)
	slice, err := slices.Create(t.Context(), newSlice("web", 8080, p, q), metav1.CreateOptions{})
	require.NoError(t, err)
	endpoints(1) // of q nothing is known yet
	_, err = pods.Create(t.Context(), q, metav1.CreateOptions{})
	require.NoError(t, err)
	endpoints(2)
	no := false
	slice.Endpoints[0].Conditions.Ready = &no
	_, err = slices.Update(t.Context(), slice, metav1.UpdateOptions{})
	require.NoError(t, err)
	endpoints(1)
	require.NoError(t, pods.Delete(t.Context(), "q", metav1.DeleteOptions{}))
	endpoints(0)

	_, err = a.Dynamic.Resource(apitest.Istio[1]).Namespace(real).Create(t.Context(), newObject(t, 1, bad(reviewsRule)), metav1.CreateOptions{})
	require.NoError(t, err)
	rule := newObject(t, 2, reviewsRule)
	rule.SetName("web")
	require.NoError(t, setHost(rule.Object, "web"))
	_, err = a.Dynamic.Resource(apitest.Istio[1]).Namespace(real).Create(t.Context(), rule, metav1.CreateOptions{})
	require.NoError(t, err)
	w.until(t, func(s *mesh.Snapshot, _ mesh.Generation) bool { return len(s.Services[hostOf("web")].Subsets) == 2 })
	require.Equal(t, 1, s.Problems(), "what is wrong is left out, and keeps nothing from arriving")
}

func bad(text string) string { return text + "\n  fault: {}" }

func setHost(object map[string]any, host string) error {
	spec, ok := object["spec"].(map[string]any)
	if !ok {
		return errors.New("no spec")
	}
	spec["host"] = host
	return nil
}

func TestTheOwnerLaysRulesOver(t *testing.T) {
	t.Parallel()
	p := newPod("p", "web", "v1", "10.0.0.1")
	a := newAPI(newService("web", 80), newSlice("web", 8080, p), p)
	s := newStand(t, a, socket(t))
	w := connect(t, s.path, "p.shop-1")
	w.until(t, func(s *mesh.Snapshot, _ mesh.Generation) bool { return len(s.Inbound) == 1 })

	_, err := s.owner.Apply(t.Context(), wire.Change{Set: said(saidService("web", 80))})
	require.ErrorContains(t, err, "the first change has to be whole")
	require.Equal(t, []string{"routes web.shop.svc.cluster.local:80: route 0 (said): no such service: gone.shop.svc.cluster.local"},
		s.refused(wire.Change{Whole: true, Set: said(saidRoutes("web", 80, to("gone", 80, "", 1)))}))
	misnamed := mesh.NewSnapshot()
	misnamed.Services["x"] = saidService("web", 80)
	require.Equal(t, []string{`service "x": the content is of "web.shop.svc.cluster.local"`}, s.refused(wire.Change{Whole: true, Set: misnamed}))

	applied := s.apply(wire.Change{Whole: true, Set: said(saidService("web", 80, "v1", "v2"), saidEdge(3), saidRoutes("web", 80, to("web", 80, "v1", 1)))})
	require.Equal(t, []string{"p.shop-1"}, applied.Affected)
	_, err = s.owner.Await(t.Context(), applied.Generation, "p.shop-1")
	require.NoError(t, err)
	w.until(t, func(s *mesh.Snapshot, g mesh.Generation) bool {
		return g == applied.Generation && s.Inbound["p.shop-1"].Seed == 3 && s.Routes[hostOf("web")+":80"].Routes[0].Name == "said"
	})
	require.Empty(t, s.apply(wire.Change{Set: said(saidService("web", 80, "v1", "v2"))}).Affected, "applying twice is applying once")

	// A rule of the owner that leads to what somebody takes away is left out, and keeps the owner from nothing else.
	rule := newObject(t, 1, reviewsRule)
	require.NoError(t, setHost(rule.Object, "web"))
	rules := a.Dynamic.Resource(apitest.Istio[1]).Namespace(real)
	_, err = rules.Create(t.Context(), rule, metav1.CreateOptions{})
	require.NoError(t, err)
	w.until(t, func(s *mesh.Snapshot, _ mesh.Generation) bool { return len(s.Services[hostOf("web")].Subsets) == 3 })
	s.apply(wire.Change{Set: said(saidRoutes("web", 80, to("web", 80, "v3", 1)))})
	require.NoError(t, rules.Delete(t.Context(), rule.GetName(), metav1.DeleteOptions{}))
	w.until(t, func(s *mesh.Snapshot, _ mesh.Generation) bool {
		return s.Routes[hostOf("web")+":80"].Routes[0].Name == "default"
	})
	require.Equal(t, 1, s.Problems())
	applied = s.apply(wire.Change{Set: said(saidService("later", 81))})
	w.until(t, func(s *mesh.Snapshot, g mesh.Generation) bool {
		return g == applied.Generation && s.Services[hostOf("later")] != nil
	})
	require.Len(t, s.refused(wire.Change{Set: said(saidRoutes("web", 80, to("web", 80, "v9", 1)))}), 1, "a new mistake is one")

	s.apply(wire.Change{Remove: map[mesh.Kind][]string{mesh.KindService: {hostOf("later")}, mesh.KindRouteTable: {hostOf("web") + ":80"}}})
	w.until(t, func(s *mesh.Snapshot, g mesh.Generation) bool { return s.Services[hostOf("later")] == nil })
	require.Zero(t, s.Problems())
}

// TestTheNextControlPlaneGoesOn: the second one knows what the owner said to the first, and a sidecar that goes from one to the other is told nothing new.
func TestTheNextControlPlaneGoesOn(t *testing.T) {
	t.Parallel()
	p := newPod("p", "web", "v1", "10.0.0.1")
	a := newAPI(newService("web", 80), newSlice("web", 8080, p), p)
	first := newStand(t, a, socket(t))
	w := connect(t, first.path, "p.shop-1")
	applied := first.apply(wire.Change{Whole: true, Set: said(saidService("web", 80, "v1"), saidEdge(3), saidRoutes("web", 80, to("web", 80, "v1", 1)))})
	require.EqualValues(t, 1, applied.Generation.Epoch)
	_, err := first.owner.Await(t.Context(), applied.Generation, "p.shop-1")
	require.NoError(t, err)
	before, contents := w.state()
	first.stop()

	second := newStand(t, a, first.path)
	w.until(t, func(_ *mesh.Snapshot, g mesh.Generation) bool { return g.Epoch == 2 })
	kept, told := w.state()
	require.Equal(t, before, kept)
	require.Equal(t, contents, told, "only the generation is told")
	applied = second.apply(wire.Change{Set: said(saidRoutes("web", 80, to("web", 80, "", 1)))})
	require.Equal(t, []string{"p.shop-1"}, applied.Affected, "a change need not be whole")

	// The first one, should it be there still, can change nothing any more.
	_, err = first.Apply(t.Context(), wire.Change{Set: said(saidRoutes("web", 80, to("web", 80, "v1", 7)))})
	require.ErrorIs(t, err, control.ErrReplaced)
	require.ErrorIs(t, first.Run(t.Context()), control.ErrReplaced, "and it knows")
	require.Equal(t, "", second.rules.overlay.Routes[hostOf("web")+":80"].Routes[0].Split[0].Subset)
}

func TestRules(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := newAPI()
	first, err := TakeOver(ctx, a, system)
	require.NoError(t, err)
	require.EqualValues(t, 1, first.Epoch())
	require.Nil(t, first.Overlay())
	overlay := said(saidService("web", 80, "v1"), saidEdge(3))
	require.NoError(t, first.Save(ctx, overlay))

	// Somebody puts a label on the Secret: that is no reason to give up.
	secrets := a.CoreV1().Secrets(system)
	secret, err := secrets.Get(ctx, names.Rules, metav1.GetOptions{})
	require.NoError(t, err)
	secret.Labels = map[string]string{"team": "shop"}
	_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	require.NoError(t, err)
	over := said(saidService("web", 80, "v2"))
	require.NoError(t, first.Save(ctx, over))
	writes := a.Writes()
	require.NoError(t, first.Save(ctx, over))
	require.Equal(t, writes, a.Writes(), "what is kept already is not written again")

	second, err := TakeOver(ctx, a, system)
	require.NoError(t, err)
	require.EqualValues(t, 2, second.Epoch())
	require.Equal(t, over, second.Overlay())
	require.ErrorIs(t, first.Save(ctx, overlay), control.ErrReplaced)
	secret, err = secrets.Get(ctx, names.Rules, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"team": "shop"}, secret.Labels)
	require.Equal(t, over, second.Overlay())

	for name, test := range map[string]struct {
		data map[string][]byte
		want string
	}{
		"epoch":   {map[string][]byte{keyEpoch: []byte("x")}, `"x" is no epoch`},
		"packing": {map[string][]byte{names.KeyRules: []byte("x")}, "unpacking"},
	} {
		a := newAPI()
		_, err := a.CoreV1().Secrets(system).Update(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: names.Rules}, Data: test.data}, metav1.UpdateOptions{})
		require.NoError(t, err)
		_, err = TakeOver(ctx, a, system)
		require.ErrorContains(t, err, test.want, name)
	}
	_, err = TakeOver(ctx, a, "nowhere")
	require.ErrorContains(t, err, "taking over the rules in Secret nowhere/meshtest-rules")
	a.Fall()
	require.Error(t, second.Save(ctx, overlay))
	require.Equal(t, over, second.Overlay(), "what is not kept is not in force")
}
