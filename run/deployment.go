package run

import (
	"fmt"
	"net"
	"strconv"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/plan"
	"meshtest.dev/meshtest/spec"
)

// deployment is what the environment is asked for.
func (c *conductor) deployment() env.Deployment {
	d := env.Deployment{Run: c.ID, Dir: c.Dir, Logs: c.logs(), Snapshot: c.Plan.Snapshot}
	for _, w := range c.Plan.Workloads {
		for _, instance := range w.Instances {
			d.Workloads = append(d.Workloads, c.workload(w, instance))
		}
	}
	return d
}

func (c *conductor) workload(w plan.Workload, instance string) env.Workload {
	out := env.Workload{
		Workload: mesh.Workload{
			Name: w.Name, Namespace: c.Plan.Namespace, Service: w.Service, Version: w.Version, Instance: instance, Identity: w.Identity, Labels: w.Labels,
		},
		External: w.External, Host: w.Host, Port: w.Port, Protocol: w.Protocol,
		Program: env.Program{
			Fixture: w.Run.Fixture, Command: w.Run.Command, Image: w.Run.Image, Manifest: w.Run.Manifest, Objects: w.Run.Objects, Container: w.Run.Container, PullSecrets: w.Run.PullSecrets,
		},
		Readiness: env.Readiness{Path: w.Readiness.Path, Timeout: w.Readiness.Timeout},
	}
	for _, u := range w.Upstreams {
		out.Upstreams = append(out.Upstreams, env.Upstream{Name: u.Name, Host: u.Host, Port: u.Port, Protocol: u.Protocol})
	}
	out.Resolve = func(a env.Addresses) (env.Start, error) { return c.resolve(w, a) }
	return out
}

// resolve fills addresses into what the author wrote.
func (c *conductor) resolve(w plan.Workload, a env.Addresses) (env.Start, error) {
	value := func(r spec.Ref) (string, error) { return c.reference(r, w, a) }
	start := env.Start{Env: map[string]string{
		"SERVICE_NAME": w.Service, "SERVICE_VERSION": w.Version, "SEED": strconv.FormatUint(c.Plan.Seed, 10),
	}}
	for name, text := range w.Env {
		expanded, err := spec.Expand(text, value)
		if err != nil {
			return env.Start{}, fmt.Errorf("environment variable %s: %w", name, err)
		}
		start.Env[name] = expanded
	}
	for _, arg := range w.Run.Command {
		expanded, err := spec.Expand(arg, value)
		if err != nil {
			return env.Start{}, fmt.Errorf("command: %w", err)
		}
		start.Command = append(start.Command, expanded)
	}
	return start, nil
}

func (c *conductor) reference(r spec.Ref, w plan.Workload, a env.Addresses) (string, error) {
	host, port := a.Self()
	switch r.Kind {
	case spec.RefSeed:
		return strconv.FormatUint(c.Plan.Seed, 10), nil
	case spec.RefService, spec.RefExternal:
		var ok bool
		if host, port, ok = a.Upstream(r.Name); !ok {
			return "", fmt.Errorf("%s has no way to %s", w.Name, r.Name)
		}
	}
	switch r.Field {
	case "url":
		return "http://" + net.JoinHostPort(host, strconv.Itoa(port)), nil
	case "host":
		return host, nil
	case "port":
		return strconv.Itoa(port), nil
	case "name":
		return w.Service, nil
	case "version":
		return w.Version, nil
	default:
		return "", fmt.Errorf("no such field")
	}
}
