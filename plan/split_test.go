package plan_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
)

const host = "m.default.svc.cluster.local"

var split = plan.Split{Host: host, Port: 80, Stable: "prod", Canary: "canary"}

func arm(subset string, weight uint32) mesh.Destination {
	return mesh.Destination{Host: host, Subset: subset, Port: 80, Weight: weight}
}

// table has a specific route, the weighted one and one that splits otherwise.
func table() *mesh.RouteTable {
	return &mesh.RouteTable{Host: host, Port: 80, Routes: []mesh.Route{
		{Name: "admin", Origin: "VirtualService default/m", Split: []mesh.Destination{arm("prod", 100)}},
		{Name: "main", Origin: "VirtualService default/m", Split: []mesh.Destination{arm("canary", 0), arm("prod", 100)}, Retry: &mesh.Retry{Attempts: 7}, Sticky: &mesh.Sticky{Cookie: "c"}},
		{Name: "three", Split: []mesh.Destination{arm("canary", 1), arm("prod", 1), arm("other", 1)}},
	}}
}

func names(t *mesh.RouteTable) []string {
	var out []string
	for _, r := range t.Routes {
		out = append(out, r.Name)
	}
	return out
}

func TestWithWeights(t *testing.T) {
	t.Parallel()
	before := table()
	after := split.WithWeights(before, 25)
	require.Equal(t, table(), before, "an edit leaves its input alone")
	require.Equal(t, []mesh.Destination{arm("canary", 25), arm("prod", 75)}, after.Routes[1].Split, "the arms keep their order, and the route its name")
	require.Equal(t, before.Routes[0], after.Routes[0])
	require.Equal(t, before.Routes[2], after.Routes[2])
	require.Equal(t, names(before), names(after))
	require.Equal(t, []mesh.Destination{arm("canary", 100), arm("prod", 0)}, split.WithWeights(after, 101).Routes[1].Split)
	require.Equal(t, before, split.WithWeights(after, -1))
}

func TestWithHeaderRoute(t *testing.T) {
	t.Parallel()
	before := table()
	testers := []mesh.Match{{Headers: map[string]mesh.HeaderTest{"x-dev": {Present: true}}}}
	one := split.WithHeaderRoute(before, "testers", testers)
	require.Equal(t, table(), before)
	require.Equal(t, []string{"testers", "admin", "main", "three"}, names(one))
	require.Equal(t, mesh.Route{Name: "testers", Origin: plan.OriginRollout, Matches: testers, Split: []mesh.Destination{arm("canary", 100)}, Retry: &mesh.Retry{Attempts: 7}}, one.Routes[0],
		"like the weighted route but for its destination")

	two := split.WithHeaderRoute(one, "staff", testers)
	require.Equal(t, []string{"testers", "staff", "admin", "main", "three"}, names(two), "earlier header routes come first")
	changed := split.WithHeaderRoute(two, "testers", []mesh.Match{{}})
	require.Equal(t, names(two), names(changed), "a second one of a name takes its place")
	require.Equal(t, []mesh.Match{{}}, changed.Routes[0].Matches)

	require.Equal(t, []string{"staff", "admin", "main", "three"}, names(split.WithHeaderRoute(two, "testers", nil)))
	require.Equal(t, names(two), names(split.WithHeaderRoute(two, "none", nil)))
	require.Equal(t, before, split.WithoutHeaderRoutes(two))
	require.Equal(t, names(before), names(split.WithHeaderRoute(before, "admin", nil)), "only the roll-out's own routes are removed")
}
