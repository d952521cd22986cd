package spec

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parse reads, overrides, decodes and checks a scenario. The folder, nil when there is none, is where files of rules are.
func parse(folder fs.FS, name string, data []byte, opts Options) (*Scenario, Diagnostics) {
	src := newSource(name, opts.Sets)
	docs, diags := parseYAML(src, name, data)
	if len(diags) > 0 {
		return nil, diags
	}
	if len(docs) > 1 {
		second := docs[1]
		return nil, Diagnostics{src.at(SeverityError, "MT1005", name, second.Line, second.Column, "", "a scenario is one document, this file has more", "put each scenario into a file of its own")}
	}
	root := resolve(docs[0])
	if root.Kind != yaml.MappingNode {
		return nil, Diagnostics{src.at(SeverityError, "MT1102", name, root.Line, root.Column, "", "a scenario must be a mapping, not "+kindName(root), "it begins with apiVersion: "+APIVersion)}
	}
	if d, foreign := anotherKind(src, name, root); foreign {
		return nil, Diagnostics{d}
	}
	diags = checkTree(src, name, root, "")
	for _, d := range diags {
		if d.Code == "MT1008" {
			return nil, diags
		}
	}
	if len(opts.Sets) > 0 {
		root = expand(root)
		diags = append(diags, applySets(root, src)...)
	}
	d := &decoder{src: src, fixtures: opts.Fixtures, bad: map[string]bool{}, unknown: map[string][]string{}}
	s := &Scenario{source: src}
	d.decode(root, reflect.ValueOf(s).Elem(), "", Field{})
	s.readFiles(d, folder)
	s.applyDefaults()
	check(s, d)
	diags = append(diags, d.diags...).Sort()
	if diags.Err() != nil {
		return nil, diags
	}
	return s, diags
}

// anotherKind reports a document that says of itself that it is something else than a scenario: what is in it is nothing to complain about.
func anotherKind(src *source, file string, root *yaml.Node) (Diagnostic, bool) {
	text := func(name string) string {
		if n := child(root, name); n != nil && n.Kind == yaml.ScalarNode {
			return n.Value
		}
		return ""
	}
	version, kind := text("apiVersion"), text("kind")
	ours := version == "" || strings.HasPrefix(version, "meshtest.dev/")
	switch {
	case kind == Kind, kind == "" && ours, kind != "" && ours && nearest(kind, []string{Kind}) != "":
		return Diagnostic{}, false
	}
	what := cmp.Or(kind, "something else")
	if version != "" {
		what += " (" + version + ")"
	}
	at := child(root, "kind")
	if at == nil {
		at = child(root, "apiVersion")
	}
	return src.at(SeverityError, "MT1011", file, at.Line, at.Column, "", shorten("this is "+what)+", and not a scenario", "a scenario has apiVersion: "+APIVersion+" and kind: "+Kind), true
}

// readFiles reads the files that the scenario names. Only files in its own folder are read.
func (s *Scenario) readFiles(d *decoder, folder fs.FS) {
	r := fileReader{d, folder}
	for i := range s.Rules {
		rule := &s.Rules[i]
		if rule.File == "" {
			continue
		}
		if file, data, ok := r.read(join(index("rules", i), "file"), rule.File); ok {
			rule.Documents = r.documents(file, data)
		}
	}
	manifest := func(path string, run *Run) {
		if run.Manifest == "" {
			return
		}
		if _, data, ok := r.read(join(path, "run.manifest"), run.Manifest); ok {
			run.Objects = data
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		versions := s.Services[name].Versions
		for _, version := range slices.Sorted(maps.Keys(versions)) {
			manifest(join(join(join("services", name), "versions"), version), &versions[version].Run)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.External)) {
		manifest(join("external", name), &s.External[name].Run)
	}
	s.readNamed(folder)
	r.calls(s.Load)
	r.jobs("setup", s.Setup)
	r.jobs("teardown", s.Teardown)
}

// fileReader reads files of the scenario's folder.
type fileReader struct {
	d      *decoder
	folder fs.FS
}

// read reads the file that the value of a path names, and returns the name by which problems call it.
func (r fileReader) read(where, name string) (file string, data []byte, ok bool) {
	node := r.d.src.nodes[where]
	fail := func(message, hint string) (string, []byte, bool) {
		r.d.problem(node, "MT1210", where, message, hint)
		return "", nil, false
	}
	if r.folder == nil {
		return fail("a scenario that is not in a file cannot name files", "write what is in it here, if that is possible")
	}
	clean := path.Clean(strings.ReplaceAll(name, `\`, "/"))
	if path.IsAbs(clean) || !fs.ValidPath(clean) {
		return fail("the file is outside the scenario's folder", "move it into the folder, and name it relative to the scenario")
	}
	data, err := readLimited(r.folder, clean)
	if err != nil {
		return fail("the file cannot be read: "+cause(err), "")
	}
	return besideScenario(r.d.src.file, clean), data, true
}

// besideScenario is the name of a file of the scenario's folder, beginning as the scenario's own does.
func besideScenario(scenario, name string) string {
	clean := path.Clean(strings.ReplaceAll(name, `\`, "/"))
	return path.Join(strings.TrimSuffix(scenario, path.Base(scenario)), clean)
}

func (r fileReader) jobs(what string, hooks []Hook) {
	for i := range hooks {
		if hooks[i].Job == "" {
			continue
		}
		if _, data, ok := r.read(join(index(what, i), "job"), hooks[i].Job); ok {
			hooks[i].Objects = data
		}
	}
}

// documents are the YAML documents of a file.
func (r fileReader) documents(file string, data []byte) []Document {
	nodes, diags := parseYAML(r.d.src, file, data)
	var docs []Document
	for _, node := range nodes {
		diags = append(diags, checkTree(r.d.src, file, node, "")...)
		docs = append(docs, Document{File: file, Node: resolve(node)})
	}
	r.d.diags = append(r.d.diags, diags...)
	return docs
}

func cause(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
