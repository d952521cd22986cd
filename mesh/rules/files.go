package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshtest.dev/meshtest/mesh/document"
	"meshtest.dev/meshtest/mesh/istio"
)

// maxFile bounds a file of rules, in bytes.
const maxFile = 16 << 20

// Parse reads all YAML documents of a text, without the empty ones.
func Parse(file string, text []byte) (docs []Document, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var node yaml.Node
		switch err := dec.Decode(&node); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if len(node.Content) == 0 {
			continue
		}
		if root := document.Resolve(node.Content[0]); root.Tag != "!!null" {
			docs = append(docs, Document{File: file, Node: root})
		}
	}
}

// Load reads the documents of files, and of the .yaml and .yml files right in folders that are not hidden, in the order of their names. The error joins all that could not be read. It tells too which files
// were read, so that somebody can look after them. That there is no document at all is an error too: it is what a file looks like to whoever comes between its being emptied and its being written.
func Load(paths []string) (docs []Document, files []string, err error) {
	for _, path := range paths {
		some, wrong := expand(path)
		err = errors.Join(err, wrong)
		files = append(files, some...)
	}
	for _, file := range files {
		text, wrong := readBounded(file)
		if wrong == nil {
			var some []Document
			some, wrong = Parse(file, text)
			docs = append(docs, some...)
		}
		err = errors.Join(err, wrong)
	}
	if err == nil && len(docs) == 0 {
		err = fmt.Errorf("%s: there is no document in it", strings.Join(files, ", "))
	}
	return docs, files, err
}

func expand(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, nil // reading it says what is wrong
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		hidden := strings.HasPrefix(e.Name(), ".") // editors' locks and copies
		if (ext == ".yaml" || ext == ".yml") && !hidden && e.Type()&fs.ModeDir == 0 {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: there is no .yaml or .yml file in it", path)
	}
	slices.Sort(files)
	return files, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return b, err
}

// Beside reads files that documents name, relative to the folder of the first path. Whoever starts a sidecar with rules from files trusts them with what he may read himself.
func Beside(paths []string) istio.ReadFile {
	folder := "."
	if len(paths) > 0 {
		folder = paths[0]
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			folder = filepath.Dir(folder)
		}
	}
	return func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(folder, name)
		}
		return readBounded(name)
	}
}
