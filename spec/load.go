package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxFileSize bounds a scenario and each file that it names, in bytes.
const MaxFileSize = 1 << 20

// Document is one YAML document of mesh rules, with the name of the file it stands in.
type Document struct {
	File string
	Path string // dotted path in the scenario for an inline document, empty for one of a file
	Node *yaml.Node
}

// Options change how a scenario is loaded.
type Options struct {
	Sets     []string // overrides, PATH=VALUE, applied in order before anything is checked
	Fixtures []string // names of the sample applications; nil: a name is not checked
}

// Load reads and checks the scenario in a file. Nothing outside the file's folder is read. The scenario is nil when there is an error among the diagnostics.
func Load(file string, opts Options) (*Scenario, Diagnostics) {
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return nil, cannotRead(file, err)
	}
	defer root.Close()
	return load(root.FS(), filepath.Base(file), file, opts)
}

// LoadFS reads and checks a scenario in a file system, such as the embedded catalogue; its rules are read from the same file system.
func LoadFS(fsys fs.FS, file string, opts Options) (*Scenario, Diagnostics) {
	sub, err := fs.Sub(fsys, path.Dir(file))
	if err != nil {
		return nil, cannotRead(file, err)
	}
	return load(sub, path.Base(file), file, opts)
}

// Parse checks a scenario that is not in a file; it may not refer to files of rules.
func Parse(name string, data []byte, opts Options) (*Scenario, Diagnostics) {
	return parse(nil, name, data, opts)
}

// Files lists the scenario files that a path names: the file itself, or the *.yaml and *.yml files directly in a folder, sorted.
func Files(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("find scenarios: %w", err)
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, fmt.Errorf("find scenarios: %w", err)
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(name, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("find scenarios: no *.yaml file in %s", name)
	}
	slices.Sort(files)
	return files, nil
}

func load(folder fs.FS, base, name string, opts Options) (*Scenario, Diagnostics) {
	data, err := readLimited(folder, base)
	if err != nil {
		return nil, cannotRead(name, err)
	}
	return parse(folder, name, data, opts)
}

var errTooLarge = fmt.Errorf("the file is larger than %d KiB", MaxFileSize>>10)

func readLimited(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if err == nil && len(data) > MaxFileSize {
		err = errTooLarge
	}
	return data, err
}

func cannotRead(file string, err error) Diagnostics {
	code, hint := "MT1001", ""
	if errors.Is(err, errTooLarge) {
		code, hint = "MT1002", "a scenario and each file that it names are small: split it"
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return Diagnostics{{Code: code, Severity: SeverityError, File: file, Message: strings.TrimSpace("cannot be read: " + err.Error()), Hint: hint}}
}
