//go:build unix

package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"meshtest.dev/meshtest/control/wire"
)

// Bounds of diagnostics.
const (
	maxDump     = 16 << 20 // bytes of one file
	dumpTimeout = 3 * time.Second
	quotedLines = 20 // in all
	quotedEach  = 3  // of one log
)

// Diagnose asks every sidecar for its configuration, its clusters and its statistics, and quotes what logs end with.
func (m *Mesh) Diagnose(ctx context.Context, dir string) (lines []string, err error) {
	var asking sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, in := range m.plan.instances {
		if !in.sidecar {
			continue
		}
		asking.Go(func() {
			err := m.dumpSidecar(ctx, dir, in)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	asking.Wait()
	return m.lastWords(), errors.Join(errs...)
}

// dumpSidecar asks a sidecar's admin socket.
func (m *Mesh) dumpSidecar(ctx context.Context, dir string, in *instance) error {
	ctx, cancel := context.WithTimeout(ctx, dumpTimeout)
	defer cancel()
	dial := wire.Unix(m.socket(adminSocket, in))
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	defer client.CloseIdleConnections()
	for _, what := range []string{"config_dump", "clusters", "stats"} {
		if err := dump(ctx, client, "http://sidecar/"+what, filepath.Join(dir, sidecarName(in.name)+"."+what)); err != nil {
			return fmt.Errorf("asking %s for its %s: %w", sidecarName(in.name), what, err)
		}
	}
	return nil
}

func dump(ctx context.Context, client *http.Client, url, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(response.Body, maxDump))
	return errors.Join(err, f.Close())
}

// lastWords are the last lines of logs: of applications that have ended, and of every program of the mesh, which say little unless something is wrong.
func (m *Mesh) lastWords() []string {
	m.mu.Lock()
	living := map[string]bool{}
	for name := range m.processes {
		living[name] = true
	}
	m.mu.Unlock()
	names := []string{"supervisor", controlName}
	for _, in := range m.plan.instances {
		if in.sidecar {
			names = append(names, sidecarName(in.name))
		}
		if in.app != nil && !living[in.name] {
			names = append(names, in.name)
		}
	}
	var lines []string
	for _, name := range names {
		last := slices.DeleteFunc(tail(m.logFile(name)), idle)
		for _, line := range last[max(len(last)-quotedEach, 0):] {
			lines = append(lines, name+": "+line)
		}
	}
	return lines[max(len(lines)-quotedLines, 0):]
}

// idle reports whether a line says nothing of what went wrong: it is empty, or our own programs and sample applications say that all is well.
func idle(line string) bool {
	return strings.TrimSpace(line) == "" || strings.Contains(line, `"level":"INFO"`) || strings.Contains(line, `"level":"DEBUG"`) || strings.Contains(line, " INFO ")
}
