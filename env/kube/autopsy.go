package kube

import (
	"context"
	"errors"
	"os"
	"time"
)

// autopsyTimeout bounds the look at a mesh that could not stand.
const autopsyTimeout = 10 * time.Second

// autopsy keeps what was known of a mesh that could not stand: when somebody asks, it is gone.
type autopsy struct {
	dir   string // where it is kept for the time being; empty: there was nothing to look at
	lines []string
	err   error
}

// take looks at a mesh before it is taken down.
func (a *autopsy) take(ctx context.Context, m *Mesh) {
	*a = autopsy{}
	if m.pods == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), autopsyTimeout)
	defer cancel()
	if a.dir, a.err = os.MkdirTemp("", "meshtest-diagnostics-*"); a.err == nil {
		a.lines, a.err = m.Diagnose(ctx, a.dir)
	}
}

// Diagnose tells what was known of the last mesh that could not stand, and forgets it.
func (e *Environment) Diagnose(_ context.Context, dir string) ([]string, error) {
	a := e.autopsy
	e.autopsy = autopsy{}
	if a.dir == "" {
		return a.lines, a.err
	}
	err := errors.Join(a.err, os.CopyFS(dir, os.DirFS(a.dir)), os.RemoveAll(a.dir))
	return a.lines, err
}
