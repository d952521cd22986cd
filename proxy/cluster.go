package proxy

import (
	"fmt"
	"sync/atomic"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/proxy/telemetry"
	"meshtest.dev/meshtest/proxy/upstream"
)

// lead is where an arm of a split leads. What requests need there is made when the first one comes: of a large mesh a workload calls little.
type lead struct {
	arm     *route.Arm
	rule    string   // name
	cluster *cluster // nil: it leads nowhere
	made    atomic.Pointer[destination]
}

// destination is where requests go, with what is remembered of those that go there.
type destination struct {
	arm   *route.Arm // nil: the workload's own application
	group *group     // nil: there is no such destination
	named string     // as Istio names clusters, see clusterName
	*records
}

// clusterName is Istio's name of an arm's cluster.
func clusterName(arm *route.Arm) string {
	return fmt.Sprintf("outbound|%d|%s|%s", arm.Port, arm.Destination.Subset, arm.Host)
}

// clusterKey names a cluster.
type clusterKey struct{ endpoints, subset string }

// cluster is the endpoints of a service, or of a subset, with what they were found by, to know when it still holds.
type cluster struct {
	arm       *route.Arm // one that leads there
	service   *mesh.Service
	endpoints *mesh.Endpoints
	made      atomic.Pointer[group]
}

// group is a group of endpoints that requests go to.
type group struct {
	*upstream.Group
	service *mesh.Service
	metrics []handles // by endpoint; resolved when the first request comes
	nobody  handles   // for requests that got no endpoint
}

// handles are the metrics of requests, by kind.
type handles [numKinds]atomic.Pointer[telemetry.Requests]

// numKinds is how many kinds of requests metrics tell apart: HTTP and gRPC.
const numKinds = 2

func (c *compiler) lead(r *route.Rule, arm *route.Arm) *lead {
	to := c.cluster(arm)
	if c.prev != nil {
		if had := c.prev.leads[arm]; had != nil && had.cluster == to {
			return had
		}
	}
	return &lead{arm: arm, rule: r.Name, cluster: to}
}

// cluster finds or makes the cluster of an arm; nil when the arm leads nowhere.
func (c *compiler) cluster(arm *route.Arm) *cluster {
	service, endpoints := c.next.snapshot.Services[arm.Host], c.next.snapshot.Endpoints[arm.Endpoints]
	if arm.Missing != "" || endpoints == nil {
		return nil
	}
	key := clusterKey{arm.Endpoints, arm.Destination.Subset}
	if found := c.next.clusters[key]; found != nil {
		return found
	}
	var had *cluster
	if c.prev != nil {
		had = c.prev.clusters[key]
	}
	next := had
	if had == nil || had.service != service || had.endpoints != endpoints {
		next = &cluster{arm: arm, service: service, endpoints: endpoints}
	}
	c.next.clusters[key] = next
	c.prepare(had, next)
	return next
}

// prepare makes what is needed of a cluster before a request comes: all of it when there is something to do or to be wrong, or when something is remembered of the destination, which has to go on then.
func (c *compiler) prepare(had, next *cluster) {
	policy, _ := next.policy()
	if upstream.Plain(policy) && !c.srv.pools.Knows(next.arm.Endpoints) {
		return
	}
	if had != nil && had != next && policy.HealthCheck != nil { // what was in use before there was a check remains so
		if _, err := c.srv.groupOf(had); err != nil {
			c.errs = append(c.errs, err)
		}
	}
	if _, err := c.srv.groupOf(next); err != nil {
		c.errs = append(c.errs, err)
	}
}

// policy is the traffic policy, and the subset's name if that is its own: it overrides the service's as a whole.
func (c *cluster) policy() (policy mesh.TrafficPolicy, own string) {
	for _, s := range c.service.Subsets {
		if s.Name == c.arm.Destination.Subset && s.Traffic != nil {
			return *s.Traffic, s.Name
		}
	}
	return c.service.Traffic, ""
}

// protocolOf is the protocol of a service's port.
func protocolOf(service *mesh.Service, port int) mesh.Protocol {
	for _, p := range service.Ports {
		if p.Number == port {
			return p.Protocol
		}
	}
	return mesh.HTTP
}

// destination is where an arm of the configuration leads.
func (s *Server) destination(c *config, arm *route.Arm) *destination {
	l := c.leads[arm]
	if d := l.made.Load(); d != nil {
		return d
	}
	d := &destination{arm: arm, named: clusterName(arm)}
	if l.cluster != nil {
		var err error
		if d.group, err = s.groupOf(l.cluster); err != nil {
			s.opts.Log.Error("there is no way to a destination", "destination", arm.Endpoints, "error", err) // of a plain policy nothing is wrong
		}
	}
	d.records = s.newRecords(arm.Edge, l.rule, arm.Share)
	if !l.made.CompareAndSwap(nil, d) {
		return l.made.Load() // somebody else was faster
	}
	return d
}

// groupOf gives the group of a cluster, and makes it when nobody has needed it before.
func (s *Server) groupOf(c *cluster) (*group, error) {
	if g := c.made.Load(); g != nil {
		return g, nil
	}
	s.making.Lock()
	defer s.making.Unlock()
	if g := c.made.Load(); g != nil {
		return g, nil
	}
	policy, own := c.policy()
	made, err := s.pools.NewGroup(upstream.Destination{
		Name: c.arm.Endpoints, Host: c.arm.Host, Subset: own, Protocol: protocolOf(c.service, c.endpoints.Port),
		Endpoints: c.endpoints.Endpoints, Labels: c.arm.Labels, Policy: policy,
	})
	if err != nil {
		return nil, err
	}
	if s.config.Load().has(c) {
		s.pools.Join(made)
	}
	g := &group{Group: made, service: c.service, metrics: make([]handles, len(made.Endpoints))}
	c.made.Store(g)
	return g, nil
}

func (c *config) has(one *cluster) bool {
	return c.clusters[clusterKey{one.arm.Endpoints, one.arm.Destination.Subset}] == one
}

// retain keeps what a configuration uses: the connections, and what is known of endpoints.
func (s *Server) retain(c *config) {
	s.making.Lock()
	defer s.making.Unlock()
	used, groups := map[*upstream.Pool]bool{}, []*upstream.Group{}
	use := func(g *group) {
		for _, e := range g.Endpoints {
			used[e.Pool] = true
		}
	}
	for _, one := range c.clusters {
		if g := one.made.Load(); g != nil {
			use(g)
			groups = append(groups, g.Group)
		}
	}
	for _, r := range c.roles {
		if r.app != nil {
			use(r.app.group)
		}
	}
	if c.captured != nil {
		for _, r := range c.captured.inbound {
			use(r.app.group)
		}
	}
	s.pools.Retain(used)
	s.apps.Retain(used)
	s.pools.Follow(groups)
}
