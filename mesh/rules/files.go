package rules

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"meshtest.dev/meshtest/internal/yamltext"
	"meshtest.dev/meshtest/mesh/istio"
)

// maxFile bounds a file of rules, in bytes.
const maxFile = 16 << 20

// Codes of what is wrong with files, as for scenarios. What is no YAML has those of [yamltext].
const (
	codeUnreadable = "MT1001"
	codeTooLarge   = "MT1002"
	codeEmpty      = "MT1004"
)

// Parse reads all YAML documents of a text, without the empty ones.
func Parse(file string, text []byte) ([]Document, []Problem) {
	roots, wrong := yamltext.Documents(text)
	if wrong != nil {
		return nil, []Problem{{Code: wrong.Code, File: file, Line: wrong.Line, Col: wrong.Col, Message: wrong.Message, Hint: wrong.Hint}}
	}
	docs := make([]Document, len(roots))
	for i, root := range roots {
		docs[i] = Document{File: file, Node: root}
	}
	return docs, nil
}

// Load reads the documents of files, and of the .yaml and .yml files right in folders that are not hidden, in the order of their names. The error is [Problems]: all that could not be read. It tells too which files
// were read, so that somebody can look after them. That there is no document at all is an error too: it is what a file looks like to whoever comes between its being emptied and its being written.
func Load(paths []string) (docs []Document, files []string, err error) {
	var problems Problems
	for _, path := range paths {
		some, wrong := expand(path)
		problems = append(problems, wrong...)
		files = append(files, some...)
	}
	for _, file := range files {
		some, wrong := load(file)
		problems = append(problems, wrong...)
		docs = append(docs, some...)
	}
	if len(problems) == 0 && len(docs) == 0 {
		problems = Problems{{Code: codeEmpty, File: strings.Join(files, ", "), Message: "there is no document in it"}}
	}
	if len(problems) > 0 {
		return docs, files, problems
	}
	return docs, files, nil
}

// load reads the documents of a file.
func load(file string) ([]Document, []Problem) {
	text, err := readBounded(file)
	var tooLarge tooLargeError
	switch {
	case errors.As(err, &tooLarge):
		return nil, []Problem{{Code: codeTooLarge, File: file, Message: tooLarge.Error()}}
	case err != nil:
		return nil, unreadable(file, err)
	}
	return Parse(file, text)
}

func unreadable(file string, err error) []Problem {
	if wrong := new(fs.PathError); errors.As(err, &wrong) {
		err = wrong.Err // the file is named already
	}
	return []Problem{{Code: codeUnreadable, File: file, Message: "cannot be read: " + err.Error()}}
}

func expand(path string) ([]string, []Problem) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, nil // reading it says what is wrong
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, unreadable(path, err)
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
		return nil, []Problem{{Code: codeEmpty, File: path, Message: "there is no .yaml or .yml file in it"}}
	}
	slices.Sort(files)
	return files, nil
}

// tooLargeError is the error of a file that is larger than the given number of bytes.
type tooLargeError int

func (e tooLargeError) Error() string { return fmt.Sprintf("larger than %d MiB", int(e)>>20) }

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: %w", path, tooLargeError(maxFile))
	}
	return b, err
}

// Beside reads files that documents name, relative to the folder of the first path. Whoever starts a sidecar with rules from files trusts them with what he may read himself.
// Before a file is read, before is told of its path, unless it is nil.
func Beside(paths []string, before func(path string)) istio.ReadFile {
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
		if before != nil {
			before(name)
		}
		return readBounded(name)
	}
}
