// Command gen writes istio.yaml: the definitions of those of Istio's kinds that the mesh understands, taken as they are from the version of istio.io/api that go.mod requires.
//
// Usage: go generate ./env/kube/crds
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"meshtest.dev/meshtest/env/kube/crds"
)

func main() {
	if err := generate("istio.yaml"); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func generate(file string) error {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", "istio.io/api").Output()
	if err != nil {
		return fmt.Errorf("looking for istio.io/api: %w", err)
	}
	version, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	upstream, err := os.ReadFile(filepath.Join(dir, "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		return fmt.Errorf("reading Istio's definitions: %w", err)
	}
	text, err := crds.Extract(string(upstream), version)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o644)
}
