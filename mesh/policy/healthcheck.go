package policy

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
)

// healthCheckPolicy is the spec of a HealthCheckPolicy. The defaults are those of Envoy Gateway: an endpoint that fails is out of use after about 9 s.
type healthCheckPolicy struct {
	Targets []targetRef `api:"targetRefs,required" min:"1" max:"16"`
	Check   struct {
		Timeout   document.Duration `api:"timeout" default:"1s"`
		Interval  document.Duration `api:"interval" default:"3s"`
		Unhealthy int               `api:"unhealthyThreshold" default:"3" min:"1" max:"1000"`
		Healthy   int               `api:"healthyThreshold" default:"1" min:"1" max:"1000"`
		Port      int               `api:"port" min:"1" max:"65535"`
		HTTP      *struct {
			Path     string            `api:"path,required"`
			Host     string            `api:"host"`
			Headers  map[string]string `api:"headers"`
			Statuses []*yaml.Node      `api:"expectedStatuses" min:"1" max:"100"`
		} `api:"http"`
		TCP  *struct{} `api:"tcp"`
		GRPC *struct {
			Service string `api:"serviceName"`
		} `api:"grpc"`
	} `api:"healthCheck,required"`
}

// statusRange is Envoy's Int64Range: from Start until before End.
type statusRange struct {
	Start int `api:"start,required" min:"100" max:"599"`
	End   int `api:"end,required" min:"101" max:"600"`
}

func (c *compiler) healthCheckPolicy(o *object, n *yaml.Node) {
	var spec healthCheckPolicy
	o.Object(n, reflect.ValueOf(&spec).Elem(), o.path)
	path := document.Join(o.path, "healthCheck")
	s := &spec.Check
	check := &mesh.HealthCheck{
		TCP: s.TCP != nil, Port: s.Port, Interval: o.positive(document.Join(path, "interval"), s.Interval), Timeout: o.positive(document.Join(path, "timeout"), s.Timeout),
		UnhealthyThreshold: s.Unhealthy, HealthyThreshold: s.Healthy,
	}
	kinds := 0
	for _, is := range []bool{s.HTTP != nil, s.TCP != nil, s.GRPC != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 && !o.Has(path) && o.Nodes[path] != nil {
		o.Problem(CodeInvalid, path, "such as http: {path: /healthz}", "exactly one of http, tcp and grpc is needed, not %d", kinds)
	}
	if h := s.HTTP; h != nil {
		at := document.Join(path, "http")
		if !o.Has(at) && !strings.HasPrefix(h.Path, "/") {
			o.Problem(CodeInvalid, document.Join(at, "path"), "such as /healthz", "%q is not a path", h.Path)
		}
		check.HTTP = &mesh.HTTPCheck{Path: h.Path, Host: h.Host, Headers: o.headers(document.Join(at, "headers"), h.Headers)}
		for i, status := range h.Statuses {
			check.HTTP.Statuses = append(check.HTTP.Statuses, o.statuses(document.Index(document.Join(at, "expectedStatuses"), i), status))
		}
	}
	if s.GRPC != nil {
		check.GRPC = &mesh.GRPCCheck{Service: s.GRPC.Service}
	}
	for _, svc := range c.targets(o, spec.Targets) {
		if c.claim(o, svc.path, "how "+mesh.LogicalName(svc.Host)+" is checked", "health of "+svc.Host) {
			c.out.HealthChecks[svc.Host] = check
		}
	}
}

// headers are those of a check's requests, by their lower-case names.
func (o *object) headers(path string, all map[string]string) map[string]string {
	var out map[string]string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		lower := strings.ToLower(name)
		switch {
		case lower == "host":
			o.Problem(CodeInvalid, document.Join(path, name), "http.host", "the host is no header")
		case !isToken(name):
			o.Problem(CodeInvalid, document.Join(path, name), "", "%q is not the name of a header", name)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[lower] = all[name]
	}
	return out
}

// statuses reads a status, or a range of them.
func (o *object) statuses(path string, n *yaml.Node) mesh.StatusRange {
	if n.Kind == yaml.ScalarNode {
		status, err := strconv.Atoi(n.Value)
		if err != nil || n.Tag != "!!int" || status < 100 || status > 599 {
			o.At(n, CodeType, path, "", "must be a status such as 200 or {start: 200, end: 300}, not %s", document.KindName(n))
		}
		return mesh.StatusRange{First: status, Last: status}
	}
	var r statusRange
	o.Object(n, reflect.ValueOf(&r).Elem(), path)
	if !o.Has(path) && r.Start >= r.End {
		o.Problem(CodeInvalid, path, "the end is not part of it", "the range %d to %d is empty", r.Start, r.End)
	}
	return mesh.StatusRange{First: r.Start, Last: r.End - 1}
}

// positive reports a time that is written and too short.
func (o *object) positive(path string, d document.Duration) time.Duration {
	if d < document.Duration(time.Millisecond) && o.Nodes[path] != nil && !o.Has(path) {
		o.Problem(CodeInvalid, path, "", "must be at least 1ms")
	}
	return time.Duration(d)
}

// isToken reports whether a name is a token of RFC 9110, 5.6.2.
func isToken(name string) bool {
	for _, r := range name {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r) {
			return false
		}
	}
	return name != ""
}
