// Package testbin builds the repository's binaries for tests that run them as a user would.
package testbin

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// build is one set of binaries, made once in a test process.
type build struct {
	once sync.Once
	dir  string
	err  error
}

// builds of this test process, by their sabotage.
var (
	mu     sync.Mutex
	builds = map[string]*build{}
)

// Dir builds every command, and returns the folder they are in. The folder lives until [Remove].
func Dir(t testing.TB) string { return dir(t, "") }

// Saboteur is Dir with a sidecar that breaks what its sabotage names; see cmd/meshtest-sidecar/saboteur.go.
func Saboteur(t testing.TB, sabotage string) string { return dir(t, sabotage) }

func dir(t testing.TB, key string) string {
	t.Helper()
	mu.Lock()
	b := builds[key]
	if b == nil {
		b = &build{}
		builds[key] = b
	}
	mu.Unlock()
	b.once.Do(func() { b.dir, b.err = make(key) })
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir
}

func make(sabotage string) (string, error) {
	dir, err := os.MkdirTemp("", "meshtest-bin-*")
	if err != nil {
		return "", err
	}
	err = goBuild(dir, "meshtest.dev/meshtest/cmd/...")
	if err == nil && sabotage != "" {
		err = goBuild(dir, "-tags", "saboteur", "-ldflags", "-X main.sabotage="+sabotage, "meshtest.dev/meshtest/cmd/meshtest-sidecar")
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

func goBuild(dir string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", dir + string(filepath.Separator)}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the binaries: %w\n%s", err, out)
	}
	return nil
}

// Remove removes what was built; TestMain calls it at the end.
func Remove() {
	mu.Lock()
	defer mu.Unlock()
	for _, b := range builds {
		_ = os.RemoveAll(b.dir)
	}
	clear(builds)
}

// Result is how a binary ended.
type Result struct {
	Exit           int
	Stdout, Stderr string
}

// Run runs a binary of the folder to its end.
func Run(t testing.TB, dir, name string, env []string, args ...string) Result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, name), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
