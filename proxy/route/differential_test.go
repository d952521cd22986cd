package route

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

var webCaller = mesh.Workload{Name: "web-v1", Service: "web", Version: "v1", Instance: "web-v1-1", Labels: mesh.Labels{"app": "web"}}

func compileTable(t testing.TB, table *mesh.RouteTable) *Router {
	t.Helper()
	s := mesh.NewSnapshot()
	s.Routes[mesh.HostPort(table.Host, table.Port)] = table
	r, err := Compile(s, webCaller)
	require.NoError(t, err)
	return r
}

// requireSame compares the index with the naive evaluation, and the explanation with both.
func requireSame(t *testing.T, r *Router, table *mesh.RouteTable, v *View) (rule int) {
	t.Helper()
	rule, match := naive(table, webCaller, v)
	hit := r.Table(table.Host, table.Port).Lookup(v)
	x := r.Explain(Ask{Host: table.Host, Port: table.Port}, v)
	require.Same(t, hit.Rule, x.Rule, "the explanation has another winner for %+v", v)
	if rule < 0 {
		require.Nil(t, hit.Rule, "%+v matches nothing", v)
		require.Equal(t, ActionNoRule, x.Action)
		require.Len(t, x.Rules, len(table.Routes))
		return rule
	}
	require.NotNil(t, hit.Rule, "%+v matches %s", v, table.Routes[rule].Name)
	require.Equal(t, table.Routes[rule].Name, hit.Rule.Name, "%+v", v)
	require.Equal(t, hit.Rule.Name, x.Winner)
	require.Len(t, x.Rules, rule+1)
	if match < 0 {
		require.Nil(t, hit.Match)
	} else {
		require.Same(t, &table.Routes[rule].Matches[match], hit.Match)
		require.Len(t, x.Rules[rule].Matches, match+1)
	}
	return rule
}

// requireSameConnection is requireSame for a connection.
func requireSameConnection(t *testing.T, r *Router, table *mesh.RouteTable, sni string) (rule int) {
	t.Helper()
	rule, match := naiveConnection(table, webCaller, sni)
	hit := r.Table(table.Host, table.Port).LookupTLS(sni)
	x := r.Explain(Ask{Host: table.Host, Port: table.Port, Connection: true, SNI: sni}, nil)
	require.Same(t, hit.Rule, x.Rule, "the explanation has another winner for %q", sni)
	if rule < 0 {
		require.Nil(t, hit.Rule, "%q matches nothing", sni)
		return rule
	}
	require.NotNil(t, hit.Rule, "%q matches %s", sni, table.Routes[rule].Name)
	require.Equal(t, table.Routes[rule].Name, hit.Rule.Name, "%q", sni)
	if match < 0 {
		require.Nil(t, hit.Match)
	} else {
		require.Same(t, &table.Routes[rule].Matches[match], hit.Match)
	}
	return rule
}

func TestLookupIsTheFirstMatchOfTheList(t *testing.T) {
	t.Parallel()
	winners, misses, connected := map[int]int{}, 0, 0
	for seed := range uint64(150) {
		d := newDice(seed)
		table := d.table(1 + d.IntN(80))
		r := compileTable(t, table)
		for range 60 {
			if rule := requireSame(t, r, table, d.request()); rule < 0 {
				misses++
			} else {
				winners[rule]++
			}
		}
		for range 10 {
			if rule := requireSameConnection(t, r, table, d.host()); rule >= 0 {
				connected++
			}
		}
		requireSameConnection(t, r, table, "")
	}
	require.Greater(t, connected, 200, "connections find their rules")
	require.Greater(t, misses, 200, "requests that match nothing are tried too")
	require.Greater(t, len(winners), 20, "winners are spread over the tables")
}

func FuzzLookup(f *testing.F) {
	f.Add(uint64(1), uint8(20), "GET", "/api/a", "q=a&debug", "svc:80", "x-a", "a", "x-a", "b")
	f.Add(uint64(7), uint8(3), "POST", "/API//b", "", "svc", "X-B", "", "cookie", "1")
	f.Add(uint64(9), uint8(90), "", "", "&&=", "", "", "", "x-c", "a,b")
	f.Fuzz(func(t *testing.T, seed uint64, routes uint8, method, path, query, host, name1, value1, name2, value2 string) {
		for _, c := range []byte(path) {
			if c >= 0x80 { // not in a path; strings.ToLower of the oracle would fold more than ASCII
				t.Skip()
			}
		}
		for _, c := range []byte(host) {
			if c >= 0x80 || c == '[' || c == ']' {
				t.Skip()
			}
		}
		if strings.Count(host, ":") > 1 || len(host) > maxName {
			t.Skip()
		}
		table := newDice(seed).table(int(routes))
		v := &View{Method: method, URLPath: path, RawQuery: query, Authority: host, Headers: []Header{{name1, value1}, {name2, value2}}}
		r := compileTable(t, table)
		requireSame(t, r, table, v)
		requireSameConnection(t, r, table, host)
	})
}
