package spec

import (
	"errors"
	"io/fs"
	"path"
	"reflect"
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
	d := &decoder{src: src, bad: map[string]bool{}, unknown: map[string][]string{}}
	s := &Scenario{source: src}
	d.decode(root, reflect.ValueOf(s).Elem(), "", Field{})
	s.readRules(d, folder)
	s.applyDefaults()
	check(s, d)
	diags = append(diags, d.diags...).Sort()
	if diags.Err() != nil {
		return nil, diags
	}
	return s, diags
}

// readRules reads the files of rules. Only files in the scenario's folder are read.
func (s *Scenario) readRules(d *decoder, folder fs.FS) {
	for i := range s.Rules {
		r := &s.Rules[i]
		if r.File == "" {
			continue
		}
		where := join(index("rules", i), "file")
		node := d.src.nodes[where]
		if folder == nil {
			d.problem(node, "MT1210", where, "a scenario that is not in a file cannot have files of rules", "write the document here")
			continue
		}
		clean := path.Clean(strings.ReplaceAll(r.File, `\`, "/"))
		if path.IsAbs(clean) || !fs.ValidPath(clean) {
			d.problem(node, "MT1210", where, "the file is outside the scenario's folder", "move it into the folder, and name it relative to the scenario")
			continue
		}
		data, err := readLimited(folder, clean)
		if err != nil {
			d.problem(node, "MT1210", where, "the file cannot be read: "+cause(err), "")
			continue
		}
		file := path.Join(strings.TrimSuffix(d.src.file, path.Base(d.src.file)), clean)
		docs, diags := parseYAML(d.src, file, data)
		for _, doc := range docs {
			diags = append(diags, checkTree(d.src, file, doc, "")...)
			r.Documents = append(r.Documents, Document{File: file, Node: resolve(doc)})
		}
		d.diags = append(d.diags, diags...)
	}
}

func cause(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}
