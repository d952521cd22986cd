package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
and the endpoints. Nothing is started. URL is a path, /a?b=c, or http://HOST[:PORT]/a?b=c.`,
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
	snapshot, caller, seed, err := a.world(s, args)
	if err != nil {
		return err
	}
	view, err := a.view(target)
	if err != nil {
		return err
	}
	router, err := route.Compile(snapshot, caller)
	if err != nil {
		return fmt.Errorf("compiling the rules: %w", err)
	}
	ask := route.Ask{Seed: seed, Key: cmp.Or(a.key, "why-1"), Scheme: a.scheme, SNI: a.sni, Connection: a.sni != ""}
	if ask.Host, ask.Port, err = a.asks(snapshot, caller, view.Authority); err != nil {
		return err
	}
	x := router.Explain(ask, view)
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

// world is the configuration that is asked about, whose sidecar answers, and the seed of its draws.
func (a *asked) world(s streams, args []string) (*mesh.Snapshot, mesh.Workload, uint64, error) {
	if len(a.files) > 0 {
		return a.fromFiles(s)
	}
	return a.fromScenario(s, args[0])
}

func (a *asked) fromFiles(s streams) (*mesh.Snapshot, mesh.Workload, uint64, error) {
	none := mesh.Workload{}
	docs, _, err := rules.Load(a.files)
	var problems rules.Problems
	if errors.As(err, &problems) {
		return nil, none, 0, a.complain(s, diagnostics(problems))
	} else if err != nil {
		return nil, none, 0, err
	}
	compiled, problems := rules.Compile(docs, mesh.DefaultNamespace, rules.Beside(a.files))
	if len(problems) > 0 {
		return nil, none, 0, a.complain(s, diagnostics(problems))
	}
	seed, err := a.seedOr(0)
	name := cmp.Or(a.from, "standalone")
	return compiled.Snapshot, mesh.Workload{Name: name, Namespace: mesh.DefaultNamespace, Labels: mesh.Labels{mesh.LabelApp: name}}, seed, err
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

func (a *asked) fromScenario(s streams, name string) (*mesh.Snapshot, mesh.Workload, uint64, error) {
	none := mesh.Workload{}
	names, err := find([]string{name})
	if err != nil {
		return nil, none, 0, err
	}
	scenario, problems := a.load(names[0])
	if problems.Err() != nil {
		return nil, none, 0, a.complain(s, problems)
	}
	environment, err := a.chooseEnvironment(scenario, slog.LevelWarn)
	if err != nil {
		return nil, none, 0, err
	}
	seed, err := a.chooseSeed(scenario)
	if err != nil {
		return nil, none, 0, err
	}
	p, planned := a.planFor(scenario, environment, seed)
	if planned.Err() != nil {
		return nil, none, 0, a.complain(s, append(problems, planned...))
	}
	caller, err := callerIn(p.Snapshot, cmp.Or(a.from, spec.EdgeName))
	return p.Snapshot, caller, seed, err
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

// asks is the host and port whose rules decide, when that is not up to the request's authority.
func (a *asked) asks(s *mesh.Snapshot, caller mesh.Workload, authority string) (host string, port int, err error) {
	named := cmp.Or(a.host, a.sni)
	switch {
	case named == "" && authority != "":
		return "", 0, nil // the router knows what it means
	case named == "":
		return "", 0, usageError("http://HOST/..., --host HOST or -H 'host: HOST'", "the request does not say for which host it is")
	}
	name, number := named, ""
	if h, p, err := net.SplitHostPort(named); err == nil {
		name, number = h, p
	}
	for _, candidate := range candidates(s, name, cmp.Or(caller.Namespace, mesh.DefaultNamespace)) {
		svc := s.Services[candidate]
		if svc == nil {
			continue
		}
		for _, p := range svc.Ports {
			if number == strconv.Itoa(p.Number) || number == "" && (len(svc.Ports) == 1 || p.Number == 80) {
				return candidate, p.Number, nil
			}
		}
		return "", 0, usageError("", "%s has %s, and not the port that is asked for", name, portsOf(svc))
	}
	return "", 0, usageError("", "nothing is known of the host %q", name)
}

// candidates are the hosts that a name can mean.
func candidates(s *mesh.Snapshot, name, namespace string) []string {
	all := []string{mesh.Resolve(name, namespace), name}
	for host := range s.Services {
		if gateway, _, ok := strings.Cut(host, "."); ok && gateway == name && !strings.HasSuffix(host, mesh.ClusterDomain) && strings.Contains(host, "gateway") {
			all = append(all, host)
		}
	}
	slices.Sort(all[2:])
	return all
}

func portsOf(svc *mesh.Service) string {
	var all []string
	for _, p := range svc.Ports {
		all = append(all, strconv.Itoa(p.Number))
	}
	if len(all) == 0 {
		return "no port"
	}
	return "the ports " + strings.Join(all, ", ")
}
