package main

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/local"
	"meshtest.dev/meshtest/spec"
)

// chooseEnvironment finds the environment that a scenario runs in. What runs in kind runs in any cluster.
func (f *scenarioFlags) chooseEnvironment(s loaded, level slog.Level) (env.Environment, error) {
	name := f.environment
	if name == "" {
		name = s.Environments[0]
	}
	if !slices.Contains([]string{spec.EnvLocal, spec.EnvKind, spec.EnvKubernetes}, name) {
		return nil, usageError("the environments are local, kind and kubernetes", "unknown environment %q", name)
	}
	fits := slices.Contains(s.Environments, name) || (name == spec.EnvKubernetes && slices.Contains(s.Environments, spec.EnvKind))
	if !fits {
		return nil, usageError("it names "+strings.Join(s.Environments, ", ")+" under environments", "%s does not run in %s", s.file, name)
	}
	if name == spec.EnvLocal {
		return &local.Environment{Log: level}, nil
	}
	return f.inCluster(name == spec.EnvKind, level)
}

// chooseSeed is the flag's seed, else the scenario's, else a random one.
func (f *scenarioFlags) chooseSeed(s loaded) (uint64, error) {
	if f.seed != "" {
		seed, err := strconv.ParseUint(f.seed, 10, 64)
		if err != nil {
			return 0, usageError("a seed is a whole number from 0 to 18446744073709551615", "--seed %q is no seed", f.seed)
		}
		return seed, nil
	}
	if s.Seed != nil {
		return *s.Seed, nil
	}
	var b [4]byte // short enough to be typed again
	_, _ = rand.Read(b[:])
	return uint64(binary.LittleEndian.Uint32(b[:])), nil
}
