package route

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

const (
	middleware = "middleware.default.svc.cluster.local"
	backend    = "backend.prod.svc.cluster.local"
)

// chain is a snapshot with a split over prod and canary.
func chain(canary uint32) *mesh.Snapshot {
	s := mesh.NewSnapshot()
	s.Services[middleware] = &mesh.Service{
		Host: middleware, Ports: []mesh.Port{{Number: 8080, Protocol: mesh.HTTP}, {Number: 9000, Protocol: mesh.TCP}},
		Subsets: []mesh.Subset{
			{Name: "stable", Labels: mesh.Labels{"version": "v1"}},
			{Name: "canary", Labels: mesh.Labels{"version": "v2"}},
		},
	}
	s.Services[backend] = &mesh.Service{Host: backend, Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}, {Number: 8080, Protocol: mesh.HTTP}}}
	for _, at := range []hostPort{{middleware, 8080}, {middleware, 9000}, {backend, 80}, {backend, 8080}} {
		s.Endpoints[mesh.HostPort(at.host, at.port)] = &mesh.Endpoints{Host: at.host, Port: at.port}
	}
	s.Endpoints[mesh.HostPort(middleware, 8080)].Endpoints = []mesh.Endpoint{
		{Address: "127.0.0.1", Port: 1, Instance: "middleware-v1-1", Workload: "middleware-v1", Labels: mesh.Labels{"version": "v1"}},
		{Address: "127.0.0.1", Port: 2, Instance: "middleware-v2-1", Workload: "middleware-v2", Labels: mesh.Labels{"version": "v2"}, Health: mesh.Draining},
	}
	s.Routes[mesh.HostPort(middleware, 8080)] = &mesh.RouteTable{Host: middleware, Port: 8080, Routes: []mesh.Route{
		{
			Name: "testers", Matches: []mesh.Match{{Headers: header("x-dev-user", exact("me"))}},
			Split: []mesh.Destination{{Host: middleware, Subset: "canary", Port: 8080, Weight: 100}},
		},
		{
			Name: "primary", Timeout: 5 * time.Second, Retry: &mesh.Retry{Attempts: 1, On: []mesh.RetryOn{mesh.On5xx}},
			Split: []mesh.Destination{
				{Host: middleware, Subset: "stable", Port: 8080, Weight: 100 - canary},
				{Host: middleware, Subset: "canary", Port: 8080, Weight: canary},
			},
		},
	}}
	return s
}

func compile(t testing.TB, s *mesh.Snapshot) *Router {
	t.Helper()
	r, err := Compile(s, webCaller)
	require.NoError(t, err)
	return r
}

func TestTableForAuthority(t *testing.T) {
	t.Parallel()
	s := chain(5)
	s.Routes["time.example.com:8090"] = &mesh.RouteTable{Host: "time.example.com", Port: 8090}
	s.Routes["[fd00::1]:8080"] = &mesh.RouteTable{Host: "fd00::1", Port: 8080}
	r := compile(t, s)
	for authority, want := range map[string]string{
		"middleware":                                 middleware + ":8080", // its only HTTP port
		"middleware:8080":                            middleware + ":8080",
		"middleware:9000":                            middleware + ":9000",
		"middleware:80":                              "",
		"MiddleWare.Default":                         middleware + ":8080",
		"middleware.default.svc":                     middleware + ":8080",
		"middleware.default.svc.cluster.local.":      middleware + ":8080",
		"middleware.default.svc.cluster.local.:8080": middleware + ":8080",
		"backend":                                    "", // in another namespace
		"backend.prod":                               backend + ":80",
		"backend.prod:8080":                          backend + ":8080",
		"time.example.com":                           "time.example.com:8090",
		"time.example.com:08090":                     "time.example.com:8090",
		"[fd00::1]:8080":                             "[fd00::1]:8080",
		"[fd00::1]":                                  "[fd00::1]:8080",
		"middleware:":                                "",
		"middleware:0":                               "",
		"middleware:65536":                           "",
		"middleware:x":                               "",
		"":                                           "",
		"elsewhere":                                  "",
	} {
		got := ""
		if table := r.TableFor([]byte(authority)); table != nil {
			got = mesh.HostPort(table.Host, table.Port)
		}
		require.Equal(t, want, got, authority)
	}
	for _, test := range []struct {
		authority string
		port      int
		want      *Table
	}{
		{"middleware", 9000, r.Table(middleware, 9000)}, // the port that the request went to
		{"middleware:8080", 9000, r.Table(middleware, 8080)},
		{"middleware", 80, nil},
		{"backend.prod", 8080, r.Table(backend, 8080)},
	} {
		require.Same(t, test.want, r.TableOn([]byte(test.authority), test.port), test)
	}
	require.Nil(t, r.Table("middleware", 8080), "listeners name hosts in full")
	require.Zero(t, r.Table("middleware", 8080).Lookup(&View{}), "no table, no rule")
}

func TestTableForAWildcardHost(t *testing.T) {
	t.Parallel()
	s := chain(5)
	for _, host := range []string{"*.example.com", "*.api.example.com", "www.example.com"} {
		s.Services[host] = &mesh.Service{Host: host, Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}}
		s.Endpoints[mesh.HostPort(host, 80)] = &mesh.Endpoints{Host: host, Port: 80}
	}
	r := compile(t, s)
	for authority, want := range map[string]string{
		"a.example.com": "*.example.com", "B.A.Example.com:80": "*.example.com", "x.api.example.com": "*.api.example.com", "api.example.com.": "*.example.com",
		"www.example.com": "www.example.com", "example.com": "", ".example.com": "", "a.example.com:81": "",
	} {
		table := r.TableFor([]byte(authority))
		if want == "" {
			require.Nil(t, table, authority)
		} else {
			require.NotNil(t, table, authority)
			require.Equal(t, want, table.Host, authority)
		}
	}
	require.Equal(t, "*.example.com", r.Table("*.example.com", 80).Host)
}

func TestRule(t *testing.T) {
	t.Parallel()
	table := compile(t, chain(5)).Table(middleware, 8080)
	rule := table.Lookup(&View{}).Rule
	require.Equal(t, "primary", rule.Name)
	require.Equal(t, mesh.Edge{From: "web", To: "middleware"}, rule.Edge)
	require.Equal(t, "middleware:8080/primary", rule.ID)
	require.Equal(t, 5*time.Second, rule.Timeout)
	require.Equal(t, mesh.DefaultBackoffBase, rule.Retry.BackoffBase)
	canary := rule.Arms[1]
	require.Equal(t, "v2", canary.Version)
	require.Equal(t, mesh.Labels{"version": "v2"}, canary.Labels)
	require.InDelta(t, 0.05, canary.Share, 1e-12)
	require.Equal(t, "web->middleware", canary.EdgeName)
	require.Equal(t, middleware+":8080", canary.Endpoints)

	testers := table.Lookup(&View{Headers: []Header{{"x-dev-user", "me"}}}).Rule
	require.Equal(t, "testers", testers.Name)
	require.Equal(t, 1.0, testers.Arms[0].Share)
	require.Zero(t, testers.Choose(1, &View{}, "users-1"))
}

// The index finds a rule by the value that a header has when all its lines are put together.
func TestRepeatedHeaderIsFoundThroughTheIndex(t *testing.T) {
	t.Parallel()
	table := &mesh.RouteTable{Host: middleware, Port: 80}
	for _, value := range []string{"a", "b", "a,b", "b,a", "c"} {
		table.Routes = append(table.Routes, mesh.Route{
			Name: value, Matches: []mesh.Match{{Headers: header("x-user", exact(value))}}, Direct: &mesh.DirectResponse{Status: 200},
		})
	}
	compiled := compileTable(t, table).Table(middleware, 80)
	require.Len(t, compiled.index.values, 1)
	for want, headers := range map[string][]Header{
		"b":   {{"x-user", "b"}},
		"a,b": {{"x-user", "a"}, {"X-User", "b"}},
		"b,a": {{"x-user", "b,a"}},
	} {
		require.Equal(t, want, compiled.Lookup(&View{Headers: headers}).Rule.Name)
	}
	require.Nil(t, compiled.Lookup(&View{Headers: []Header{{"x-user", "a"}, {"x-user", "a"}}}).Rule)
}

func TestImplicitRule(t *testing.T) {
	t.Parallel()
	table := compile(t, chain(5)).Table(backend, 80)
	rule := table.Lookup(&View{URLPath: "/any"}).Rule
	require.True(t, rule.Implicit)
	require.Equal(t, ImplicitRule, rule.Name)
	require.Equal(t, mesh.Edge{From: "web", To: "backend.prod"}, rule.Edge)
	require.Len(t, rule.Arms, 1)
	require.Zero(t, rule.Arms[0].Share, "the endpoint that is picked decides the version, not a split")
	require.Empty(t, rule.Arms[0].Version)
	require.Nil(t, rule.Arms[0].Labels)
	require.Equal(t, mesh.DefaultRetry().On, rule.Retry.On)
	require.Equal(t, mesh.TCP, compile(t, chain(5)).Table(middleware, 9000).Protocol)
}

// Arms to one version of one callee are one choice to whoever judges the version.
func TestShareIsOfTheVersion(t *testing.T) {
	t.Parallel()
	s := chain(5)
	s.Services[middleware].Subsets = append(s.Services[middleware].Subsets, mesh.Subset{Name: "east", Labels: mesh.Labels{"version": "v2", "zone": "east"}})
	s.Routes[mesh.HostPort(middleware, 8080)].Routes = []mesh.Route{{Name: "r", Split: []mesh.Destination{
		{Host: middleware, Subset: "stable", Port: 8080, Weight: 6},
		{Host: middleware, Subset: "canary", Port: 8080, Weight: 1},
		{Host: middleware, Subset: "east", Port: 8080, Weight: 1},
		{Host: middleware, Port: 8080, Weight: 2},
	}}}
	var shares []float64
	for _, a := range compile(t, s).Table(middleware, 8080).Lookup(&View{}).Rule.Arms {
		shares = append(shares, a.Share)
	}
	require.Equal(t, []float64{0.6, 0.2, 0.2, 0}, shares)
}

func TestMissingDestinationsAreArmsThatSayWhy(t *testing.T) {
	t.Parallel()
	s := chain(5)
	s.Routes[mesh.HostPort(middleware, 8080)].Routes = []mesh.Route{{Name: "r", Split: []mesh.Destination{
		{Host: middleware, Subset: "gone", Port: 8080, Weight: 1},
		{Host: "gone.example.com", Port: 80, Weight: 1},
	}}}
	arms := compile(t, s).Table(middleware, 8080).Lookup(&View{}).Rule.Arms
	require.Equal(t, `middleware has no subset "gone"`, arms[0].Missing)
	require.Equal(t, "no such service: gone.example.com", arms[1].Missing)
}

func TestCompileTellsAllMistakes(t *testing.T) {
	t.Parallel()
	s := chain(5)
	s.Routes[mesh.HostPort(middleware, 8080)].Routes = []mesh.Route{
		{Name: "a", Matches: []mesh.Match{{}, {Path: regex("(")}}, Direct: &mesh.DirectResponse{Status: 200}},
		{Name: "b", Split: []mesh.Destination{{Host: middleware, Port: 8080}}},
	}
	s.Routes[mesh.HostPort(backend, 80)] = &mesh.RouteTable{Host: backend, Port: 80, Routes: []mesh.Route{{Name: "c"}}}
	r, err := Compile(s, webCaller)
	require.Nil(t, r)
	require.EqualError(t, err, `routes backend.prod.svc.cluster.local:80: route 0 (c): exactly one of split, redirect and direct must act, not 0
routes middleware.default.svc.cluster.local:8080: route 0 (a): match 1: path: regex "(": missing closing ): `+"`(`"+`
routes middleware.default.svc.cluster.local:8080: route 1 (b): the weights add up to 0`)
}

func TestRecompileKeepsWhatDidNotChange(t *testing.T) {
	t.Parallel()
	first := chain(5)
	before := compile(t, first)

	next := first.Clone()
	next.Routes[mesh.HostPort(middleware, 8080)] = chain(25).Routes[mesh.HostPort(middleware, 8080)]
	after, err := Recompile(before, next, webCaller)
	require.NoError(t, err)
	require.NotSame(t, before.Table(middleware, 8080), after.Table(middleware, 8080))
	require.Same(t, before.Table(backend, 80), after.Table(backend, 80))
	require.Same(t, before.names, after.names)
	require.InDelta(t, 0.05, before.Table(middleware, 8080).Rules[1].Arms[1].Share, 1e-12)
	require.InDelta(t, 0.25, after.Table(middleware, 8080).Rules[1].Arms[1].Share, 1e-12)

	service := next.Clone() // a route changes with a service that it names
	service.Services[middleware] = &mesh.Service{Host: middleware}
	resubset, err := Recompile(after, service, webCaller)
	require.NoError(t, err)
	require.NotEmpty(t, resubset.Table(middleware, 8080).Rules[1].Arms[1].Missing)
	require.Same(t, after.Table(backend, 80), resubset.Table(backend, 80))

	fewer := next.Clone()
	delete(fewer.Endpoints, mesh.HostPort(backend, 80))
	fewer.Endpoints["new.default.svc.cluster.local:80"] = &mesh.Endpoints{Host: "new.default.svc.cluster.local", Port: 80}
	renamed, err := Recompile(after, fewer, webCaller)
	require.NoError(t, err)
	require.Nil(t, renamed.Table(backend, 80))
	require.NotNil(t, renamed.TableFor([]byte("new")))
	require.Same(t, after.Table(middleware, 8080), renamed.Table(middleware, 8080))

	other, err := Recompile(after, next, mesh.Workload{Name: "other", Labels: mesh.Labels{"app": "other"}})
	require.NoError(t, err)
	require.NotSame(t, after.Table(backend, 80), other.Table(backend, 80))
}

func TestSplitFollowsTheKey(t *testing.T) {
	t.Parallel()
	const keys = 20000
	at := map[uint32][]int{}
	for _, weight := range []uint32{5, 25, 50} {
		s := chain(weight)
		// What has nothing to do with the split does not move it.
		s.Routes[mesh.HostPort(middleware, 8080)].Routes = append([]mesh.Route{{
			Name: "before", Matches: []mesh.Match{{Path: exact(strconv.Itoa(int(weight)))}}, Direct: &mesh.DirectResponse{Status: 204},
		}}, s.Routes[mesh.HostPort(middleware, 8080)].Routes...)
		rule := compile(t, s).Table(middleware, 8080).Lookup(&View{}).Rule
		for i := range keys {
			key := "users-" + strconv.Itoa(i)
			arm := rule.Choose(42, &View{}, key)
			require.Equal(t, mesh.Chance(42, mesh.PurposeSplit, "middleware:8080/primary", "web->middleware", key, 0).Pick([]uint32{100 - weight, weight}), arm)
			at[weight] = append(at[weight], arm)
		}
	}
	canary := 0
	for i := range keys {
		require.LessOrEqual(t, at[5][i], at[25][i], "a user of the canary stays one")
		require.LessOrEqual(t, at[25][i], at[50][i])
		canary += at[5][i]
	}
	require.InDelta(t, 0.05*keys, canary, 150) // five standard deviations
}

func TestStickySplit(t *testing.T) {
	t.Parallel()
	s := chain(50)
	primary := &s.Routes[mesh.HostPort(middleware, 8080)].Routes[1]
	for name, c := range map[string]struct {
		sticky mesh.Sticky
		with   []Header
		key    string // that decides
	}{
		"header":           {mesh.Sticky{Header: "x-user"}, []Header{{"X-User", "anna"}}, "anna"},
		"no header":        {mesh.Sticky{Header: "x-user"}, nil, ""},
		"empty header":     {mesh.Sticky{Header: "x-user"}, []Header{{"x-user", ""}}, ""},
		"cookie":           {mesh.Sticky{Cookie: "id"}, []Header{{"cookie", "a=1; xid=2; id=anna; id=eva"}}, "anna"},
		"quoted cookie":    {mesh.Sticky{Cookie: "id"}, []Header{{"cookie", `id="anna"`}}, "anna"},
		"second line":      {mesh.Sticky{Cookie: "id"}, []Header{{"cookie", "a=1"}, {"cookie", "id=anna"}}, "anna"},
		"no such cookie":   {mesh.Sticky{Cookie: "id"}, []Header{{"cookie", "a=id"}}, ""},
		"cookie, no value": {mesh.Sticky{Cookie: "id"}, []Header{{"cookie", "id"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			table := *s.Routes[mesh.HostPort(middleware, 8080)]
			primary := *primary
			primary.Sticky = &c.sticky
			table.Routes = []mesh.Route{primary}
			snapshot := s.Clone()
			snapshot.Routes[mesh.HostPort(middleware, 8080)] = &table
			rule := compile(t, snapshot).Table(middleware, 8080).Lookup(&View{}).Rule
			for i := range 200 {
				key := "users-" + strconv.Itoa(i)
				want := c.key
				if want == "" {
					want = key
				}
				draw := mesh.Chance(9, mesh.PurposeSplit, rule.ID, "web->middleware", want, 0)
				require.Equal(t, draw.Pick([]uint32{50, 50}), rule.Choose(9, &View{Headers: c.with}, key))
			}
		})
	}
}

func TestHeaderEditsAreInTheirOrder(t *testing.T) {
	t.Parallel()
	s := chain(5)
	s.Routes[mesh.HostPort(middleware, 8080)].Routes = []mesh.Route{{
		Name: "r", Request: mesh.HeaderChange{Set: map[string]string{"b": "2", "a": "1"}, Remove: []string{"z"}},
		Response: mesh.HeaderChange{Add: map[string]string{"c": "3"}},
		Split: []mesh.Destination{{
			Host: middleware, Port: 8080, Weight: 1,
			Request: mesh.HeaderChange{Set: map[string]string{"a": "arm"}}, Response: mesh.HeaderChange{Remove: []string{"c"}},
		}},
	}}
	rule := compile(t, s).Table(middleware, 8080).Lookup(&View{}).Rule
	require.Equal(t, []Edit{{SetHeader, "a", "arm"}, {RemoveHeader, "z", ""}, {SetHeader, "a", "1"}, {SetHeader, "b", "2"}}, rule.Arms[0].Request)
	require.Equal(t, []Edit{{RemoveHeader, "c", ""}, {AddHeader, "c", "3"}}, rule.Arms[0].Response)
	require.Equal(t, []Edit{{AddHeader, "c", "3"}}, rule.Response)
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		match         *mesh.StringMatch
		rewrite, path string
		want          string
	}{
		{prefix("/reviews"), "/v2/reviews", "/reviews/1", "/v2/reviews/1"},
		{prefix("/reviews"), "/", "/reviews/1", "/1"},
		{prefix("/reviews/"), "/", "/reviews/1", "/1"},
		{prefix("/reviews"), "/", "/reviews", "/"},
		{prefix("/"), "/v2/", "/a", "/v2/a"},
		{prefix("/a"), "/b", "/abc", "/bbc"},
		{exact("/a"), "/b", "/a", "/b"},
		{regex("/a.*"), "/b", "/abc", "/b"},
		{nil, "/v2/", "/a", "/v2/a"},
		{prefix("/a"), "", "/a/b", "/a/b"},
	} {
		table := &mesh.RouteTable{Host: middleware, Port: 80, Routes: []mesh.Route{{
			Name: "r", Matches: []mesh.Match{{Path: c.match}}, Rewrite: &mesh.Rewrite{Path: c.rewrite}, Direct: &mesh.DirectResponse{Status: 200},
		}}}
		hit := compileTable(t, table).Table(middleware, 80).Lookup(&View{URLPath: c.path})
		require.NotNil(t, hit.Rule, c.path)
		require.Equal(t, "x"+c.want, string(hit.AppendPath([]byte("x"), []byte(c.path))))
	}
	every := &mesh.RouteTable{Host: middleware, Port: 80, Routes: []mesh.Route{{Name: "r", Rewrite: &mesh.Rewrite{Path: "/v2/"}, Direct: &mesh.DirectResponse{Status: 200}}}}
	hit := compileTable(t, every).Table(middleware, 80).Lookup(&View{URLPath: "/a"})
	require.Equal(t, "/v2/a", string(hit.AppendPath(nil, []byte("/a"))))
}
