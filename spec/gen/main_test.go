package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/spec"
)

const published = "../fixtures/schema/scenario.v1.schema.json"

func TestPublishedSchemaIsFresh(t *testing.T) {
	t.Chdir("..")
	want, err := generate()
	require.NoError(t, err)
	got, err := os.ReadFile(published)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run go generate ./spec")
}

func compileSchema(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource(file, doc))
	schema, err := c.Compile(file)
	require.NoError(t, err)
	return schema
}

// value is a YAML file as a JSON value, nil when it is not one.
func value(t *testing.T, file string) any {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var v any
	if yaml.Unmarshal(data, &v) != nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b))
	require.NoError(t, err)
	return v
}

// What the loader accepts the schema accepts, and what has the wrong shape both refuse.
func TestSchemaAndLoaderAgree(t *testing.T) {
	t.Chdir("..")
	schema := compileSchema(t, published)
	shape := []string{"MT1101", "MT1102", "MT1106", "MT1108", "MT1109", "MT1110"}
	agreed := map[bool]int{}
	for _, folder := range []string{"testdata/valid", "testdata/invalid"} {
		files, err := spec.Files(folder)
		require.NoError(t, err)
		for _, file := range files {
			v := value(t, file)
			if v == nil {
				continue
			}
			_, diags := spec.Load(file, spec.Options{})
			verdict := schema.Validate(v)
			wrongShape := slices.ContainsFunc(diags, func(d spec.Diagnostic) bool {
				return slices.Contains(shape, d.Code) && !strings.Contains(d.Path, ".env.") // names of variables are not in the schema
			})
			switch {
			case diags.Err() == nil:
				require.NoError(t, verdict, file)
				agreed[true]++
			case wrongShape:
				require.Error(t, verdict, file)
				agreed[false]++
			}
		}
	}
	require.GreaterOrEqual(t, agreed[true], 3)
	require.GreaterOrEqual(t, agreed[false], 10)
}

// Each spelling of a scalar means the same to the schema and to the loader.
func TestSchemaAcceptsEachSpelling(t *testing.T) {
	t.Chdir("..")
	schema := compileSchema(t, published)
	base, err := os.ReadFile("testdata/valid/minimal.yaml")
	require.NoError(t, err)
	folder := t.TempDir()
	for add, valid := range map[string]bool{
		"timeout: 1m30s\n": true, "timeout: 1.5h\n": true, "timeout: 90\n": false, "timeout: 90 s\n": false,
		"seed: 0\n": true, "seed: 12\n": true, "seed: -1\n": false, "seed: twelve\n": false,
		"environments: [kind]\n": true, "environments: kind\n": false,
		"faults: [{name: f, from: frontend, to: backend, abort: {httpStatus: 500, percentage: 5}}]\n":            true,
		"faults: [{name: f, from: frontend, to: backend, abort: {httpStatus: 500, percentage: 5%}}]\n":           true,
		"faults: [{name: f, from: frontend, to: backend, abort: {httpStatus: 500, percentage: {value: 0.5}}}]\n": true,
		"faults: [{name: f, from: frontend, to: backend, abort: {httpStatus: 500, percentage: {value: 5%}}}]\n":  true,
		"faults: [{name: f, from: frontend, to: backend, abort: {httpStatus: 500, percentage: {valu: 5}}}]\n":    false,
		"faults: [{name: f, from: frontend, to: backend, abort: {httpStatus: 500, percentage: '5 %'}}]\n":        false,
		"faults: [{name: f, from: frontend, to: backend, abort: {httpStatus: 500}, every: 0}]\n":                 false,
		"  analysis: {checks: [{name: request-duration, compare: threshold, thresholdRange: {max: 500ms}}]}\n":   true,
		"  analysis: {checks: [{name: request-success-rate, compare: threshold, thresholdRange: {min: 99}}]}\n":  true,
		"  analysis: {alpha: 1e-3}\n": true, "  analysis: {alpha: one}\n": false,
	} {
		file := filepath.Join(folder, "s.yaml")
		require.NoError(t, os.WriteFile(file, append(bytes.Clone(base), add...), 0o644))
		_, diags := spec.Load(file, spec.Options{})
		require.Equal(t, valid, diags.Err() == nil, "loader: %s%v", add, diags)
		require.Equal(t, valid, schema.Validate(value(t, file)) == nil, "schema: %s", add)
	}
}

// The report's schema asks for the fields that are promised and describes all of them.
func TestReportSchema(t *testing.T) {
	t.Parallel()
	const file = "../../fixtures/schema/report.v1.schema.json"
	schema := compileSchema(t, file)
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(`{
		"schemaVersion": "1.0", "scenario": "canary-promote", "seed": 42, "environment": "local", "verdict": "pass", "exitCode": 0, "reason": "promoted",
		"rollout": {"outcome": "promoted", "decidedAfterMs": 31000, "canaryRequests": 900, "steps": []},
		"checks": [{"name": "request-success-rate", "verdict": "pass", "query": "", "value": 0.1, "threshold": 1, "samples": 900, "reason": "..."}],
		"faults": [{"id": "f", "kind": "abort", "matched": 100, "injected": 5, "healed": true, "residue": 0}],
		"load": [{"name": "users", "scheduled": 1, "sent": 1, "completed": 1, "errors": 0, "slipP99Ms": 0.4, "latencyMs": {"p50": 1, "p90": 2, "p99": 3, "max": 4}}],
		"mesh": {"sidecars": 6, "converged": true, "cpuMsPer1kRequests": 12, "rssMiB": 60}
	}`))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(v))
	whole := v.(map[string]any)
	for name := range whole {
		partial := map[string]any{}
		for k, v := range whole {
			if k != name {
				partial[k] = v
			}
		}
		require.Error(t, schema.Validate(partial), "without %s", name)
	}
	var raw map[string]any
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &raw))
	described(t, "report", raw)
}

// described requires a description of each property of a schema, and of the properties of those.
func described(t *testing.T, path string, s map[string]any) {
	t.Helper()
	for name, p := range properties(s) {
		require.NotEmpty(t, p["description"], "%s.%s", path, name)
		described(t, path+"."+name, p)
		if items, ok := p["items"].(map[string]any); ok {
			described(t, path+"."+name, items)
		}
	}
}

func properties(s map[string]any) map[string]map[string]any {
	out := map[string]map[string]any{}
	all, _ := s["properties"].(map[string]any)
	for name, p := range all {
		out[name] = p.(map[string]any)
	}
	return out
}
