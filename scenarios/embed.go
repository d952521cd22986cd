// Package scenarios is the shipped catalogue: each file is a demonstration, a piece of documentation and a regression test at once. The files are part of the binary, so that
// their names are enough to run them.
package scenarios

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed *.yaml objects
var files embed.FS

// FS holds the catalogue; the file of a scenario is NAME.yaml.
func FS() fs.FS { return files }

// Names lists the catalogue, sorted.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // an embedded folder can always be read
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".yaml"); ok {
			names = append(names, name)
		}
	}
	return names
}
