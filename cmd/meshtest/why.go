package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/rules"
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
	"meshtest.dev/meshtest/spec"
)

// asked is the request of `why`.
type asked struct {
	scenarioFlags
	files   []string
	from    string
	host    string
	method  string
	headers []string
	key     string
	scheme  string
	sni     string
	output  string
}

func whyCommand(s streams) *cobra.Command {
	a := asked{}
	cmd := &cobra.Command{
		Use: "why [FILE|NAME] URL", Short: "Explain where one request goes: each rule that was tried, and why it failed or won",
		Long: `Runs one request through the router that carries the traffic, compiled from a scenario or from files of rules (-f), and prints each rule that was tried, why it failed, the winner, the split
and the endpoints. Nothing is started. URL is a path, /a?b=c, or http://HOST[:PORT]/a?b=c. Rules from files are served as meshtest-sidecar alone would: every request is for their only gateway, or else for their only
host, or else for the one that its authority names.`,
		Example: `  meshtest why header-canary-mid-stack --from frontend http://middleware/ -H 'x-dev-user: super-secret'
  meshtest why -f rules.yaml http://reviews:9080/reviews/0 -H 'end-user: jason'
  meshtest why -f rules.yaml --host db.example.com:443 --sni db.example.com`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error { return a.why(s, args) },
	}
	a.add(cmd, true)
	flags := cmd.Flags()
	flags.StringArrayVarP(&a.files, "file", "f", nil, "`path` of a file or folder of rules, instead of a scenario")
	flags.StringVar(&a.from, "from", "", "`workload` that calls: a service, or NAME-VERSION (default: the edge)")
	flags.StringVar(&a.host, "host", "", "`HOST[:PORT]` whose rules are asked, whatever the request's authority says, as a listener for one upstream does; or a gateway's name")
	flags.StringVarP(&a.method, "request", "X", "GET", "`method`")
	flags.StringArrayVarP(&a.headers, "header", "H", nil, "`header` of the request, NAME: VALUE; again for more")
	flags.StringVar(&a.key, "key", "", "request `key` (x-request-id) that draws are made by")
	flags.StringVar(&a.sni, "sni", "", "ask about a connection whose TLS names this `host`, of which no requests are understood")
	flags.StringVarP(&a.output, "output", "o", "text", "`form`: text or json")
	return cmd
}

func (a *asked) why(s streams, args []string) error {
	if a.output != "text" && a.output != "json" {
		return usageError("text or json", "unknown form %q", a.output)
	}
	target, args := "/", args
	if n := len(args); n > 0 && (n == 2 || len(a.files) > 0 || a.sni == "" && looksLikeURL(args[n-1])) {
		target, args = args[n-1], args[:n-1]
	}
	if len(args) > 0 == (len(a.files) > 0) {
		return usageError("meshtest why NAME URL, or meshtest why -f rules.yaml URL", "name a scenario or files of rules, one of the two")
	}
	w, err := a.world(s, args)
	if err != nil {
		return err
	}
	view, err := a.view(target)
	if err != nil {
		return err
	}
	router, err := route.Compile(w.snapshot, w.caller)
	if err != nil {
		return fmt.Errorf("compiling the rules: %w", err)
	}
	ask := route.Ask{Seed: w.seed, Key: cmp.Or(a.key, "why-1"), Scheme: a.scheme, SNI: a.sni, Connection: a.sni != ""}
	host, port, err := a.asks(w, view.Authority)
	if err != nil {
		return err
	}
	if named := router.TableFor(view.Host()); host != "" && (a.host != "" || named == nil || named.Host != host || named.Port != port.Number) {
		ask.Host, ask.Port, ask.Connection = host, port.Number, a.sni != "" || !port.Protocol.IsHTTP()
		if a.host == "" && a.sni == "" {
			what := "host"
			if slices.Contains(w.rules.Gateways, host) {
				what = "gateway"
			}
			fmt.Fprintf(s.err, "every request is for %s, the only %s of the rules, as meshtest-sidecar takes it; --host asks about another\n", rules.Called(host), what)
		}
	}
	x := router.Explain(ask, view)
	if x.Action == route.ActionNoHost {
		fmt.Fprintf(s.err, "there are %s; --host takes the name of any\n", known(w.snapshot))
	}
	if a.output == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(x)
	}
	_, err = fmt.Fprint(s.out, x)
	return err
}

func looksLikeURL(text string) bool {
	return strings.HasPrefix(text, "/") || strings.Contains(text, "://")
}

// world is what is asked about.
type world struct {
	snapshot *mesh.Snapshot
	caller   mesh.Workload   // whose sidecar answers
	seed     uint64          // of its draws
	rules    *rules.Compiled // from files; nil of a scenario
}

func (a *asked) world(s streams, args []string) (world, error) {
	if len(a.files) > 0 {
		return a.fromFiles(s)
	}
	return a.fromScenario(s, args[0])
}

func (a *asked) fromFiles(s streams) (world, error) {
	docs, _, err := rules.Load(a.files)
	var problems rules.Problems
	if errors.As(err, &problems) {
		return world{}, a.complain(s, diagnostics(problems))
	} else if err != nil {
		return world{}, err
	}
	compiled, problems := rules.Compile(docs, mesh.DefaultNamespace, rules.Beside(a.files, nil))
	if len(problems) > 0 {
		return world{}, a.complain(s, diagnostics(problems))
	}
	seed, err := a.seedOr(0)
	name := cmp.Or(a.from, "standalone")
	caller := mesh.Workload{Name: name, Namespace: mesh.DefaultNamespace, Labels: mesh.Labels{mesh.LabelApp: name}}
	return world{compiled.Snapshot, caller, seed, compiled}, err
}

// diagnostics says problems of files of rules as those of a scenario are said.
func diagnostics(problems rules.Problems) spec.Diagnostics {
	all := make(spec.Diagnostics, len(problems))
	for i, p := range problems {
		hint := p.Hint
		if p.Known != nil {
			hint = spec.Suggest(p.Word, p.Known)
		}
		all[i] = spec.Diagnostic{Severity: spec.SeverityError, Code: p.Code, File: p.File, Line: p.Line, Col: p.Col, Path: p.Path, Message: p.Message, Hint: hint}
	}
	return all
}

func (a *asked) seedOr(otherwise uint64) (uint64, error) {
	if a.seed == "" {
		return otherwise, nil
	}
	seed, err := strconv.ParseUint(a.seed, 10, 64)
	if err != nil {
		return 0, usageError("a number", "--seed: %q is none", a.seed)
	}
	return seed, nil
}

func (a *asked) fromScenario(s streams, name string) (world, error) {
	names, err := find([]string{name})
	if err != nil {
		return world{}, err
	}
	scenario, problems := a.load(names[0])
	if problems.Err() != nil {
		return world{}, a.complain(s, problems)
	}
	environment, err := a.chooseEnvironment(scenario, slog.LevelWarn)
	if err != nil {
		return world{}, err
	}
	seed, err := a.chooseSeed(scenario)
	if err != nil {
		return world{}, err
	}
	p, planned := a.planFor(scenario, environment, seed)
	if planned.Err() != nil {
		return world{}, a.complain(s, append(problems, planned...))
	}
	caller, err := callerIn(p.Snapshot, cmp.Or(a.from, spec.EdgeName))
	return world{p.Snapshot, caller, seed, nil}, err
}

// callerIn finds the workload that calls: by its name, its service or its instance.
func callerIn(s *mesh.Snapshot, name string) (mesh.Workload, error) {
	var known []string
	instances := make([]string, 0, len(s.Inbound))
	for instance := range s.Inbound {
		instances = append(instances, instance)
	}
	slices.Sort(instances)
	for _, instance := range instances {
		w := s.Inbound[instance].Workload
		if w.Name == name || w.Service == name || instance == name {
			return w, nil
		}
		known = append(known, w.Name)
	}
	return mesh.Workload{}, usageError(spec.Suggest(name, slices.Compact(known)), "nobody is called %q", name)
}

// view is the request that is asked about.
func (a *asked) view(target string) (*route.View, error) {
	u, err := url.Parse(target)
	if err != nil || u.Opaque != "" || u.Path == "" && u.Host == "" {
		return nil, usageError("/a?b=c or http://HOST/a?b=c", "%q is no URL", target)
	}
	a.scheme = cmp.Or(u.Scheme, "http")
	path, err := http1.NormalizePath(nil, []byte(cmp.Or(u.EscapedPath(), "/")), http1.PathBase)
	if err != nil {
		return nil, usageError("", "%q: %v", target, err)
	}
	v := &route.View{Method: a.method, URLPath: string(path), RawQuery: u.RawQuery, Authority: u.Host}
	for _, h := range a.headers {
		name, value, ok := strings.Cut(h, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok || name == "":
			return nil, usageError("NAME: VALUE", "%q is no header", h)
		case name == "host":
			v.Authority = value
		case name == mesh.HeaderRequestID:
			a.key = cmp.Or(a.key, value)
			fallthrough
		default:
			v.Headers = append(v.Headers, route.Header{Name: name, Value: value})
		}
	}
	return v, nil
}

// asks is the host and port whose rules decide; empty when that is up to the request's authority. Of files of rules it is what a sidecar would take every request for that serves them.
func (a *asked) asks(w world, authority string) (host string, port mesh.Port, err error) {
	likely := a.likely(authority)
	if a.host == "" && w.rules != nil {
		host, port, err := w.rules.Serves(rules.Wanted{Likely: likely})
		switch {
		case err != nil:
			return "", mesh.Port{}, usageError("--host NAME:PORT, or http://HOST:PORT/...", "%v", err)
		case host != "":
			return host, port, nil
		}
	}
	named := cmp.Or(a.host, a.sni)
	switch {
	case named == "" && authority != "":
		return "", mesh.Port{}, nil // the router knows what it means
	case named == "":
		return "", mesh.Port{}, usageError("http://HOST/..., --host HOST or -H 'host: HOST'; there are "+known(w.snapshot), "the request does not say for which host it is")
	}
	wanted := rules.Wanted{Host: named, Likely: likely}
	if name, number, err := net.SplitHostPort(named); err == nil {
		wanted.Host = name
		if wanted.Port, err = strconv.Atoi(number); err != nil {
			return "", mesh.Port{}, usageError("NAME:PORT", "%q is no port", number)
		}
	}
	for _, candidate := range candidates(w.snapshot, wanted.Host, cmp.Or(w.caller.Namespace, mesh.DefaultNamespace)) {
		if svc := w.snapshot.Services[candidate]; svc != nil {
			if port, err = wanted.PortOf(svc); err != nil {
				return "", mesh.Port{}, usageError("", "%v", err)
			}
			return candidate, port, nil
		}
	}
	return "", mesh.Port{}, usageError("there are "+known(w.snapshot), "nothing is known of the host %q", wanted.Host)
}

// likely are the ports that a request is probably for: the one of its authority, and that of its scheme.
func (a *asked) likely(authority string) (ports []int) {
	if _, number, err := net.SplitHostPort(authority); err == nil {
		if port, err := strconv.Atoi(number); err == nil {
			ports = append(ports, port)
		}
	}
	if a.scheme == "https" || a.sni != "" {
		return append(ports, 443, 80)
	}
	return append(ports, 80)
}

// candidates are the hosts that a name can mean.
func candidates(s *mesh.Snapshot, name, namespace string) []string {
	all := append(mesh.Meanings(name, namespace), name)
	for _, host := range slices.Sorted(maps.Keys(s.Services)) {
		if gateway, in, ok := rules.GatewayName(host); ok && (name == gateway || name == in+"/"+gateway) {
			all = append(all, host)
		}
	}
	return all
}

// maxKnown is how many names are listed.
const maxKnown = 20

// known lists what can be asked about, by the names that --host takes.
func known(s *mesh.Snapshot) string {
	var hosts, gateways []string
	for _, host := range slices.Sorted(maps.Keys(s.Services)) {
		if _, _, is := rules.GatewayName(host); is {
			gateways = append(gateways, rules.Called(host))
		} else {
			hosts = append(hosts, rules.Called(host))
		}
	}
	return "the hosts " + listed(hosts) + ", and the gateways " + listed(gateways)
}

func listed(names []string) string {
	more := ""
	if n := len(names) - maxKnown; n > 0 {
		names, more = names[:maxKnown], fmt.Sprintf(" and %d more", n)
	}
	return cmp.Or(strings.Join(names, ", "), "(none)") + more
}
