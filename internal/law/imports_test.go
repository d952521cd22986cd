package law

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "meshtest.dev/meshtest"

// mayImport is the import law: for each package of this module, which other packages of the module it may import directly. "x/..." stands
// for x and everything below it. A package that no row names may be imported by nobody but commands and tests, and may import nothing of ours.
//
// The arrows follow the story: words at the bottom, mechanisms that do not know each other above them, the conductor (run) above all, and
// the command line at the edge.
var mayImport = []rule{
	{"mesh", nil},
	{"journal", nil},
	{"env/capability", nil},
	{"internal/hist", nil},
	{"internal/law", nil},
	{"internal/term", nil},
	{"internal/testbin", nil},
	{"internal/testbubble", nil},
	{"internal/testport", nil},
	{"internal/testprom", []string{"internal/testport"}},
	{"internal/oci", nil},
	{"internal/version", nil},
	{"internal/yamltext", nil},
	{"internal/fixture/...", []string{"internal/fixture/..."}},

	{"spec", []string{"mesh", "internal/yamltext"}},
	{"spec/gen", []string{"spec"}},
	{"mesh/document", nil},
	{"mesh/istio", []string{"mesh", "mesh/document"}},
	{"mesh/gatewayapi", []string{"mesh", "mesh/document"}},
	{"mesh/policy", []string{"mesh", "mesh/document", "mesh/istio"}},
	{"mesh/rules", []string{"mesh", "mesh/document", "mesh/istio", "mesh/gatewayapi", "mesh/policy", "internal/yamltext"}},
	{"plan", []string{"spec", "mesh/...", "env/capability"}},

	{"control/wire/...", []string{"mesh", "control/wire/..."}},
	{"control", []string{"mesh/...", "control/wire/..."}},
	{"proxy/...", []string{"mesh", "internal/hist", "proxy/..."}},
	{"injector", []string{"mesh"}},
	{"injector/filter", []string{"mesh", "injector", "proxy/..."}},
	{"load/...", []string{"internal/hist", "internal/testbubble", "load/..."}},
	{"metrics/...", []string{"internal/hist", "metrics/..."}},

	{"analyzer/sequential", []string{"internal/hist"}},
	{"analyzer/...", []string{"mesh", "internal/hist", "analyzer/..."}},
	{"rollout", []string{"mesh", "analyzer"}},

	{"env", []string{"mesh", "control/...", "env/capability"}},
	{"env/envtest", []string{"env", "env/capability", "mesh/...", "control/..."}},
	{"env/local/...", []string{"env", "env/capability", "env/local/...", "mesh/...", "control/...", "proxy/...", "injector/..."}},
	{"env/kube/...", []string{"env", "env/capability", "env/kube/...", "mesh/...", "control/...", "proxy/...", "injector/...", "load/agent", "internal/oci", "internal/version"}},

	{"run", []string{
		"spec", "plan", "mesh/...", "env/...", "control/...", "injector", "load/...", "metrics/...", "analyzer/...", "rollout", "journal", "internal/hist",
	}},
	{"reports", []string{"journal", "internal/hist", "reports/graph"}},
	{"reports/graph", []string{"journal", "internal/hist"}},
	{"scenarios", nil},
	{"fixtures", nil},
	{"fixtures/observability/...", []string{"fixtures/observability/..."}},
}

// A command may import what its row says; all commands may import internal/version.
var commands = []rule{
	{"cmd/meshtest", []string{"..."}},
	{"cmd/meshtest-sidecar", []string{"proxy/...", "injector/...", "control/wire/...", "mesh/...", "internal/version"}},
	{"cmd/meshtest-control", []string{"control/...", "mesh/...", "env/kube/...", "internal/version"}},
	{"cmd/meshtest-load", []string{"load/...", "internal/version"}},
	{"cmd/meshtest-fixture", []string{"internal/fixture/...", "internal/version"}},
	{"bench/...", []string{"..."}},
	{"hack/kind-offline/...", []string{"hack/kind-offline/...", "internal/oci"}},
}

// neverReached are packages that a binary must not contain, however indirectly, and why.
var neverReached = []struct{ binary, prefix, why string }{
	{"cmd/meshtest-sidecar", "k8s.io/", "the sidecar stands beside every workload and must stay small"},
	{"cmd/meshtest-sidecar", "github.com/prometheus/prometheus", "the sidecar answers scrapes, it does not query"},
	{"cmd/meshtest-sidecar", module + "/env", "the sidecar does not know where it runs"},
	{"cmd/meshtest-load", "k8s.io/", "the load agent does not know where it runs, and is loaded into every cluster"},
	{"cmd/meshtest-load", "google.golang.org/grpc", "the load agent has a protocol of its own"},
	{"cmd/meshtest-fixture", module + "/mesh", "the sample applications know nothing of the mesh"},
	{"cmd/meshtest-fixture", module + "/proxy", "the sample applications know nothing of the mesh"},
	{"cmd/meshtest", "github.com/aws/", "a query engine needs no cloud vendor's SDK: see metrics/promql"},
	{"cmd/meshtest", "github.com/Azure/", "a query engine needs no cloud vendor's SDK: see metrics/promql"},
	{"cmd/meshtest", "cloud.google.com/", "a query engine needs no cloud vendor's SDK: see metrics/promql"},
}

// standardOnly are packages whose whole tree of imports is the standard library.
var standardOnly = []string{"mesh", "journal", "env/capability", "internal/hist"}

type rule struct {
	who  string
	whom []string
}

type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T, patterns ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-pgo=off", "-json=ImportPath,Name,Doc,Imports,Deps"}, patterns...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		require.NoError(t, dec.Decode(&p))
		all = append(all, p)
	}
	require.NotEmpty(t, all)
	return all
}

func covers(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

func ruleFor(path string) (rule, bool) {
	for _, rules := range [][]rule{mayImport, commands} {
		for _, r := range rules {
			if covers(r.who, path) {
				return r, true
			}
		}
	}
	return rule{}, false
}

func TestImportsFollowTheStory(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t, "./...") {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		r, known := ruleFor(path)
		if !known {
			t.Errorf("%s has no row in the import law", path)
			continue
		}
		for _, imported := range p.Imports {
			inside, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			allowed := slices.ContainsFunc(r.whom, func(pattern string) bool { return covers(pattern, inside) })
			if !allowed {
				t.Errorf("%s -> %s: the law lets %s import only %v", path, inside, r.who, r.whom)
			}
		}
	}
}

func TestBinariesStaySmall(t *testing.T) {
	t.Parallel()
	for _, law := range neverReached {
		for _, p := range packages(t, "./"+law.binary) {
			for _, dep := range p.Deps {
				if strings.HasPrefix(dep, law.prefix) {
					t.Errorf("%s reaches %s: %s", law.binary, dep, law.why)
				}
			}
		}
	}
}

func TestWordsNeedTheStandardLibraryOnly(t *testing.T) {
	t.Parallel()
	for _, name := range standardOnly {
		for _, p := range packages(t, "./"+name) {
			for _, dep := range p.Deps {
				first, _, _ := strings.Cut(dep, "/")
				if strings.Contains(first, ".") {
					t.Errorf("%s reaches %s", name, dep)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t, "./...") {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
