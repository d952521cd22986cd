package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// An upstream is a Go module whose commands we compile, as a requirement of an otherwise empty module.
type upstream struct {
	Module  string
	Version string
	// Staging is the version under which the parts of the module that live in its folder staging are published; empty where there are none.
	Staging string
	// Flags are the linker's, beside -s and -w.
	Flags string
}

// compile returns the program of this name, made of one package of the module.
func (s *store) compile(ctx context.Context, u upstream, pkg, name string) (program string, err error) {
	folder, err := s.part(ctx, name, func(ctx context.Context, folder string) error {
		module, err := s.moduleFor(ctx, u)
		if err != nil {
			return err
		}
		flags := "-ldflags=" + strings.TrimSpace("-s -w "+u.Flags)
		arguments := []string{"build", "-mod=mod", "-buildvcs=false", "-trimpath", flags, "-o", filepath.Join(folder, name), pkg}
		_, err = command{name: "go", arguments: arguments, folder: module, env: compileEnv, log: s.log(name)}.run(ctx)
		return err
	}, u, pkg)
	return filepath.Join(folder, name), err
}

// compileOwn returns the program of this name that is part of this folder.
func (s *store) compileOwn(ctx context.Context, name, digest string) (program string, err error) {
	folder, err := s.part(ctx, name, func(ctx context.Context, folder string) error {
		arguments := []string{"build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(folder, name), "./hack/kind-offline/" + name}
		_, err := command{name: "go", arguments: arguments, env: compileEnv, log: s.log(name)}.run(ctx)
		return err
	}, digest)
	return filepath.Join(folder, name), err
}

// compileEnv makes programs that stand alone, whatever the caller's own settings are.
var compileEnv = []string{"CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOOS=linux"}

// moduleFor makes the module in which the upstream's commands are compiled. It says the same version of the language, and so the same defaults of
// the run-time system, as the upstream's own go.mod.
func (s *store) moduleFor(ctx context.Context, u upstream) (folder string, err error) {
	folder = filepath.Join(s.folder, "modules", strings.NewReplacer("/", "_").Replace(u.Module)+"@"+u.Version)
	if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
		return folder, nil
	}
	file, err := goModOf(ctx, u)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	partial := filepath.Join(folder, "go.mod.partial")
	if err := os.WriteFile(partial, []byte(file.wrapper(u)), 0o644); err != nil {
		return "", err
	}
	return folder, os.Rename(partial, filepath.Join(folder, "go.mod"))
}

// goMod is what "go mod edit -json" says of a go.mod, as far as we need it.
type goMod struct {
	Go      string
	Replace []struct {
		Old struct{ Path string }
		New struct{ Path, Version string }
	}
}

func goModOf(ctx context.Context, u upstream) (file goMod, err error) {
	out, err := command{name: "go", arguments: []string{"mod", "download", "-json", u.Module + "@" + u.Version}, folder: os.TempDir(), env: compileEnv}.run(ctx)
	if err != nil {
		return file, fmt.Errorf("downloading %s %s: %w", u.Module, u.Version, err)
	}
	var module struct{ GoMod, Error string }
	if err := json.Unmarshal([]byte(out), &module); err != nil {
		return file, fmt.Errorf("downloading %s %s: %w", u.Module, u.Version, err)
	}
	if module.Error != "" {
		return file, errors.New(module.Error)
	}
	if out, err = (command{name: "go", arguments: []string{"mod", "edit", "-json", module.GoMod}}).run(ctx); err != nil {
		return file, fmt.Errorf("reading the go.mod of %s: %w", u.Module, err)
	}
	if err := json.Unmarshal([]byte(out), &file); err != nil {
		return file, fmt.Errorf("reading the go.mod of %s: %w", u.Module, err)
	}
	return file, nil
}

// wrapper is the go.mod of a module that requires the upstream. Replacements count only in a main module, so the upstream's are repeated: those by
// another module as they are, those by the folder staging by the published version. Those by other folders are left out: a published module
// requires its siblings by their versions.
func (file goMod) wrapper(u upstream) string {
	var b strings.Builder
	fmt.Fprintf(&b, "module kind-offline\n\ngo %s\n\nrequire %s %s\n", file.Go, u.Module, u.Version)
	for _, r := range file.Replace {
		switch {
		case r.New.Version != "":
			fmt.Fprintf(&b, "\nreplace %s => %s %s\n", r.Old.Path, r.New.Path, r.New.Version)
		case u.Staging != "" && strings.HasPrefix(r.New.Path, "./staging/"):
			fmt.Fprintf(&b, "\nreplace %s => %s %s\n", r.Old.Path, r.Old.Path, u.Staging)
		}
	}
	return b.String()
}
