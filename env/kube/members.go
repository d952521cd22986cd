package kube

import (
	"cmp"
	"context"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"meshtest.dev/meshtest/env"
)

// members are the sidecars that carry traffic.
type members struct {
	mu      sync.Mutex
	now     map[string]env.Sidecar // by instance
	changes []env.Member           // all that ever happened, so that a follower misses nothing
	changed chan struct{}          // closed and replaced at every change
}

func newMembers() *members {
	return &members{now: map[string]env.Sidecar{}, changed: make(chan struct{})}
}

func (m *members) join(p *corev1.Pod, s env.Sidecar) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.now[instanceOf(p)]; there {
		return
	}
	m.now[instanceOf(p)] = s
	m.tell(env.Member{Sidecar: s})
}

func (m *members) leave(p *corev1.Pod, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, there := m.now[instanceOf(p)]
	if !there {
		return
	}
	delete(m.now, instanceOf(p))
	m.tell(env.Member{Sidecar: s, Gone: true, Reason: reason})
}

func (m *members) tell(change env.Member) {
	m.changes = append(m.changes, change)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *members) list() []env.Sidecar {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []env.Sidecar
	for _, s := range m.now {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b env.Sidecar) int { return cmp.Compare(a.Workload.Instance, b.Workload.Instance) })
	return all
}

// follow tells of everything that happened so far, and then of what happens, until ctx ends.
func (m *members) follow(ctx context.Context, each func(env.Member)) error {
	told := 0
	for {
		m.mu.Lock()
		news, changed := m.changes[told:], m.changed
		m.mu.Unlock()
		for _, change := range news {
			each(change)
		}
		told += len(news)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
