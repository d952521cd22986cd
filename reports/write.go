package reports

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// form is one kind of report.
type form struct {
	kind, file string
	write      func(io.Writer, *Story) error
}

var forms = []form{
	{"html", "report.html", WriteHTML},
	{"junit", "junit.xml", WriteJUnit},
	{"json", "report.json", WriteJSON},
	{"md", "summary.md", WriteMarkdown},
}

// Kinds lists the kinds of reports.
func Kinds() []string {
	var kinds []string
	for _, f := range forms {
		kinds = append(kinds, f.kind)
	}
	return kinds
}

// Write renders reports of the run in the folder, into it, and returns the paths of those that were written.
func Write(dir string, kinds []string) ([]string, error) {
	s, err := Open(dir)
	if err != nil {
		return nil, err
	}
	return WriteStory(s, dir, kinds)
}

// WriteStory renders reports of a story into a folder. A file is replaced as a whole or not at all.
func WriteStory(s *Story, dir string, kinds []string) ([]string, error) {
	var written []string
	var errs []error
	for _, kind := range kinds {
		i := slices.IndexFunc(forms, func(f form) bool { return f.kind == kind })
		if i < 0 {
			errs = append(errs, fmt.Errorf("unknown report %q", kind))
			continue
		}
		path := filepath.Join(dir, forms[i].file)
		if err := replace(path, s, forms[i].write); err != nil {
			errs = append(errs, fmt.Errorf("rendering %s: %w", forms[i].file, err))
			continue
		}
		written = append(written, path)
	}
	return written, errors.Join(errs...)
}

// replace writes beside the file, syncs and renames, so that nobody ever sees a part of it.
func replace(path string, s *Story, write func(io.Writer, *Story) error) error {
	var b bytes.Buffer
	if err := write(&b, s); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after the rename, and then there is nothing to remove
	_, err = tmp.Write(b.Bytes())
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
