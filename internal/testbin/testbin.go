// Package testbin builds the repository's binaries for tests that run them as a user would.
package testbin

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// builds of this test process, by their build tags.
var (
	mu     sync.Mutex
	builds = map[string]*build{}
)

// Dir builds every command with the build tags, and returns the folder they are in. The folder lives until [Remove].
func Dir(t testing.TB, tags ...string) string {
	t.Helper()
	key := strings.Join(tags, ",")
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

func make(tags string) (string, error) {
	dir, err := os.MkdirTemp("", "meshtest-bin-*")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-tags", tags, "-o", dir+string(filepath.Separator), "meshtest.dev/meshtest/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(errors.New("building the binaries: "+string(out)), err, os.RemoveAll(dir))
	}
	return dir, nil
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
