package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Generation orders configurations: a counter within the life (epoch) of one control plane.
type Generation struct {
	Epoch   uint64 `json:"epoch"`
	Counter uint64 `json:"counter"`
}

// Compare returns -1, 0 or +1 as g is older than, the same as, or newer than h.
func (g Generation) Compare(h Generation) int {
	return cmp.Or(cmp.Compare(g.Epoch, h.Epoch), cmp.Compare(g.Counter, h.Counter))
}

func (g Generation) String() string { return fmt.Sprintf("%d.%d", g.Epoch, g.Counter) }

// Kind is the kind of a resource, in the order in which a sidecar must have them: a kind may name resources of the kinds before it.
type Kind string

// Kinds. Policy and Trust join them with authorisation and identity.
const (
	KindService    Kind = "service"
	KindEndpoints  Kind = "endpoints"
	KindRouteTable Kind = "routes"
	KindInbound    Kind = "inbound"
)

// Kinds lists all kinds, make before break: additions are pushed and acknowledged in this order, removals in the reverse one.
func Kinds() []Kind { return []Kind{KindService, KindEndpoints, KindRouteTable, KindInbound} }

// Snapshot is a whole configuration: named resources of each kind. It is immutable once shared.
type Snapshot struct {
	Services  map[string]*Service    `json:"services"`  // by Host
	Endpoints map[string]*Endpoints  `json:"endpoints"` // by HostPort
	Routes    map[string]*RouteTable `json:"routes"`    // by HostPort
	Inbound   map[string]*Inbound    `json:"inbound"`   // by workload instance
}

// NewSnapshot returns an empty snapshot.
func NewSnapshot() *Snapshot {
	return &Snapshot{
		Services:  map[string]*Service{},
		Endpoints: map[string]*Endpoints{},
		Routes:    map[string]*RouteTable{},
		Inbound:   map[string]*Inbound{},
	}
}

// Clone returns a copy whose maps may be changed; the resources themselves are shared and must be replaced, not edited.
func (s *Snapshot) Clone() *Snapshot {
	return &Snapshot{
		Services:  maps.Clone(s.Services),
		Endpoints: maps.Clone(s.Endpoints),
		Routes:    maps.Clone(s.Routes),
		Inbound:   maps.Clone(s.Inbound),
	}
}

// Keep returns the snapshot with those resources of an earlier one that are the same, so that whoever compiled them need not do it again; s itself does not change.
func (s *Snapshot) Keep(earlier *Snapshot) *Snapshot {
	next := s.Clone()
	keep(next.Services, earlier.Services)
	keep(next.Endpoints, earlier.Endpoints)
	keep(next.Routes, earlier.Routes)
	keep(next.Inbound, earlier.Inbound)
	return next
}

func keep[R any](now, earlier map[string]*R) {
	for name, r := range now {
		if had := earlier[name]; had != nil && reflect.DeepEqual(had, r) {
			now[name] = had
		}
	}
}

// Validate returns every reference that leads nowhere and every rule that cannot act, in a stable order; nil when the snapshot is sound.
func (s *Snapshot) Validate() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Endpoints)) {
		e := s.Endpoints[name]
		if s.Services[e.Host] == nil {
			errs = append(errs, fmt.Errorf("endpoints %s: no such service: %s", name, e.Host))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Routes)) {
		for i, r := range s.Routes[name].Routes {
			for _, err := range s.validateRoute(r) {
				errs = append(errs, fmt.Errorf("routes %s: route %d (%s): %w", name, i, r.Name, err))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Inbound)) {
		in := s.Inbound[name]
		for _, out := range in.Outbound {
			if s.Services[out.Host] == nil && in.Unknown != RegistryOnly { // which refuses it
				errs = append(errs, fmt.Errorf("inbound %s: no such upstream: %s", name, out.Host))
			}
		}
	}
	return errs
}

func (s *Snapshot) validateRoute(r Route) []error {
	var errs []error
	actions := 0
	for _, acts := range []bool{len(r.Split) > 0, r.Redirect != nil, r.Direct != nil} {
		if acts {
			actions++
		}
	}
	if actions != 1 {
		errs = append(errs, fmt.Errorf("exactly one of split, redirect and direct must act, not %d", actions))
	}
	var sum uint64
	for _, d := range r.Split {
		sum += uint64(d.Weight)
		if d.Refuse != 0 {
			continue // it leads nowhere on purpose
		}
		if err := s.validateDestination(d.Host, d.Subset, d.Port); err != nil {
			errs = append(errs, err)
		}
	}
	if len(r.Split) > 0 && sum == 0 {
		errs = append(errs, fmt.Errorf("the weights add up to 0"))
	}
	for _, m := range r.Mirrors {
		if err := s.validateDestination(m.Host, m.Subset, m.Port); err != nil {
			errs = append(errs, fmt.Errorf("mirror: %w", err))
		}
	}
	return errs
}

func (s *Snapshot) validateDestination(host, subset string, port int) error {
	svc := s.Services[host]
	switch {
	case svc == nil:
		return fmt.Errorf("no such service: %s", host)
	case s.Endpoints[HostPort(host, port)] == nil:
		return fmt.Errorf("service %s has no port %d", host, port)
	case subset != "" && !slices.ContainsFunc(svc.Subsets, func(sub Subset) bool { return sub.Name == subset }):
		return fmt.Errorf("service %s has no subset %q", host, subset)
	default:
		return nil
	}
}

// Update is one incremental change to one kind of resource, as a sidecar receives it. Set holds only resources of Kind.
type Update struct {
	Generation Generation
	Kind       Kind
	Set        *Snapshot
	Removed    []string // resource names
}

// Apply returns the snapshot with the update carried out; s itself does not change.
func (s *Snapshot) Apply(u Update) *Snapshot {
	next := s.Clone()
	if u.Set != nil {
		maps.Copy(next.Services, u.Set.Services)
		maps.Copy(next.Endpoints, u.Set.Endpoints)
		maps.Copy(next.Routes, u.Set.Routes)
		maps.Copy(next.Inbound, u.Set.Inbound)
	}
	for _, name := range u.Removed {
		switch u.Kind {
		case KindService:
			delete(next.Services, name)
		case KindEndpoints:
			delete(next.Endpoints, name)
		case KindRouteTable:
			delete(next.Routes, name)
		case KindInbound:
			delete(next.Inbound, name)
		}
	}
	return next
}
