package policy

import (
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/document"
	"meshtest.dev/meshtest/mesh/istio"
)

// maxLimits is how many limits a service can have.
const maxLimits = 64

// rateLimitPolicy is the spec of a RateLimitPolicy.
type rateLimitPolicy struct {
	Targets []targetRef `api:"targetRefs,required" min:"1" max:"16"`
	Limits  []rateLimit `api:"rateLimits,required" min:"1" max:"64"`
}

type rateLimit struct {
	Name     string            `api:"name,required"`
	Requests int               `api:"requests,required" min:"1" max:"2147483647"`
	Per      document.Duration `api:"per,required"`
	Burst    int               `api:"burst" min:"1" max:"2147483647"`
	Key      *struct {
		Caller bool   `api:"caller"`
		Header string `api:"header"`
	} `api:"key"`
	Match  []*yaml.Node `api:"match" min:"1" max:"64"`
	Status int          `api:"status" min:"400" max:"599"`
	Tell   bool         `api:"enableXRatelimitHeaders"`
}

func (c *compiler) rateLimitPolicy(o *object, n *yaml.Node) {
	var spec rateLimitPolicy
	o.Object(n, reflect.ValueOf(&spec).Elem(), o.path)
	var limits []mesh.RateLimit
	for i, l := range spec.Limits {
		limits = append(limits, o.limit(document.Index(document.Join(o.path, "rateLimits"), i), l))
	}
	for _, svc := range c.targets(o, spec.Targets) {
		if svc.External {
			o.Problem(CodeInvalid, svc.path, "location: MESH_INTERNAL in its ServiceEntry, unless it is outside", "%s is outside the mesh: nobody counts its requests there", mesh.LogicalName(svc.Host))
			continue
		}
		if !slices.ContainsFunc(svc.Ports, func(p mesh.Port) bool { return p.Protocol.IsHTTP() }) {
			o.Problem(CodeInvalid, svc.path, "", "%s has no requests to count: it does not speak HTTP", mesh.LogicalName(svc.Host))
			continue
		}
		for j, l := range limits {
			at := document.Join(document.Index(document.Join(o.path, "rateLimits"), j), "name")
			if l.Name != "" {
				c.claim(o, at, "what the limit "+l.Name+" of "+mesh.LogicalName(svc.Host)+" is", "limit "+l.Name+" of "+svc.Host)
			}
		}
		all := slices.Concat(c.out.Limits[svc.Host], limits)
		if len(all) > maxLimits {
			o.Problem(CodeInvalid, document.Join(o.path, "rateLimits"), "", "%s has %d limits, and at most %d are possible", mesh.LogicalName(svc.Host), len(all), maxLimits)
		}
		c.out.Limits[svc.Host] = all
	}
}

// limit compiles one limit.
func (o *object) limit(path string, l rateLimit) mesh.RateLimit {
	out := mesh.RateLimit{Name: l.Name, Requests: l.Requests, Per: o.positive(document.Join(path, "per"), l.Per), Burst: l.Burst, Status: l.Status, Headers: l.Tell}
	if !o.Has(path) {
		if _, err := out.Units(); err != nil {
			o.Problem(CodeInvalid, path, "fewer, or within a shorter time", "%v", err)
		}
	}
	if k := l.Key; k != nil {
		at := document.Join(path, "key")
		out.Caller, out.Header = k.Caller, strings.ToLower(k.Header)
		switch {
		case o.Has(at):
		case !k.Caller && k.Header == "":
			o.Problem(CodeInvalid, at, "leave it out for one bucket", "a key is of the caller, of a header, or of both")
		case k.Header != "" && !isToken(k.Header):
			o.Problem(CodeInvalid, document.Join(at, "header"), "", "%q is not the name of a header", k.Header)
		}
	}
	at := document.Join(path, "match")
	matches, problems := istio.Matches(o.File, at, l.Match)
	for _, p := range problems {
		p.Code = codeFamily + strings.TrimPrefix(p.Code, "MT13")
		o.Problems = append(o.Problems, p)
	}
	out.Matches = matches
	return out
}
