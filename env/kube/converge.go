package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/mesh"
)

// look is how often a sidecar is asked what it knows while the mesh converges.
const look = 50 * time.Millisecond

// converge returns when every sidecar knows every instance: all have acknowledged a generation in which nobody is missing.
func (m *Mesh) converge(ctx context.Context) error {
	defer m.watch.Waiting("every sidecar to know every instance")()
	ctx, cancel := context.WithTimeoutCause(ctx, convergeTimeout, fmt.Errorf("not within %s", convergeTimeout))
	defer cancel()
	pods, err := m.pods.await(ctx, func(p *corev1.Pod) bool { return hasSidecar(p) && carries(p) && isReady(p) }, m.complete)
	if err != nil {
		return fmt.Errorf("convergence: %d sidecars carry traffic, and %d have to: %w", len(pods), m.expected(), err)
	}
	whole, err := m.awaitWhole(ctx, pods)
	if err != nil {
		return fmt.Errorf("convergence: %w", err)
	}
	var instances []string
	for _, p := range pods {
		instances = append(instances, instanceOf(p))
	}
	if _, err := m.configuration.Await(ctx, whole, instances...); err != nil {
		return fmt.Errorf("convergence: %w", err)
	}
	return nil
}

// expected is how many sidecars there have to be.
func (m *Mesh) expected() int {
	n := 1 // the gateway
	for _, a := range m.applications {
		if !a.External {
			n += int(a.replicas)
		}
	}
	return n
}

func (m *Mesh) complete(pods []*corev1.Pod) bool { return len(pods) >= m.expected() }

// awaitWhole returns a generation in which a sidecar that may know everything does: the control plane hears of ready pods a little later than we do.
func (m *Mesh) awaitWhole(ctx context.Context, pods []*corev1.Pod) (mesh.Generation, error) {
	i := slices.IndexFunc(pods, func(p *corev1.Pod) bool { return !hasRole(names.RoleGateway)(p) })
	if i < 0 {
		i = 0 // there is nothing but the gateway
	}
	client := m.adminClient(pods[i])
	defer client.CloseIdleConnections()
	missing := error(nil)
	for {
		generation, snapshot, err := dump(ctx, client)
		if err == nil {
			if err = m.lacks(snapshot); err == nil {
				return generation, nil
			}
		}
		if ctx.Err() == nil {
			missing = err
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return mesh.Generation{}, errors.Join(context.Cause(ctx), missing)
		}
	}
}

// lacks says which instances a configuration does not know. What is outside and not opened by any rule is not known on purpose; what is opened has a service from the beginning.
func (m *Mesh) lacks(s *mesh.Snapshot) error {
	want := map[string]int{}
	for _, a := range m.applications {
		if a.External && s.Services[a.Host] == nil {
			continue
		}
		want[mesh.HostPort(a.Host, a.Port)] += int(a.replicas)
	}
	var lacking []string
	for name, n := range want {
		have := 0
		if e := s.Endpoints[name]; e != nil {
			have = len(e.Endpoints)
		}
		if have < n {
			lacking = append(lacking, fmt.Sprintf("%s has %d of %d endpoints", name, have, n))
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	slices.Sort(lacking)
	return errors.New(strings.Join(lacking, ", "))
}

// dump asks a sidecar for its configuration.
func dump(ctx context.Context, client *http.Client) (mesh.Generation, *mesh.Snapshot, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/config_dump", nil)
	if err != nil {
		return mesh.Generation{}, nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return mesh.Generation{}, nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Generation mesh.Generation
		Snapshot   *mesh.Snapshot
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return mesh.Generation{}, nil, fmt.Errorf("reading a sidecar's configuration: %w", err)
	}
	if answer.Snapshot == nil {
		return mesh.Generation{}, nil, errors.New("a sidecar has no configuration")
	}
	return answer.Generation, answer.Snapshot, nil
}
