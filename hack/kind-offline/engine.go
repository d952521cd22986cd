package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// engineStart is how long a container engine may take until it answers.
	engineStart = time.Minute
	// boundedRuntime is the name of the runtime of hack/kind-offline/runtime, in the engine's configuration and in the file system.
	boundedRuntime = "kind-offline"
	runtimePath    = "/usr/local/bin/kind-offline-runtime"
	engineConfig   = "/etc/docker/daemon.json"
	engineProcess  = "/var/run/docker.pid"
)

// engine sees to it that a Docker Engine answers and can start privileged containers, which kind's nodes are.
func engine(ctx context.Context, s *store, limited bool) error {
	runtime, answers := defaultRuntime(ctx)
	if answers && (!limited || runtime == boundedRuntime) {
		return nil
	}
	if elsewhere := os.Getenv("DOCKER_HOST"); elsewhere != "" && !answers {
		return fmt.Errorf("no container engine answers at DOCKER_HOST=%s", elsewhere)
	}
	if os.Geteuid() != 0 {
		return errors.New("no container engine answers that can be used, and only root can install, configure and start one")
	}
	if err := install(ctx, s, "dockerd", "docker.io", "iptables", "iproute2", "ca-certificates"); err != nil {
		return err
	}
	if limited {
		if err := configureRuntime(ctx); err != nil {
			return err
		}
	}
	if answers {
		return reloadEngine(ctx)
	}
	return startEngine(ctx, s)
}

// defaultRuntime asks the engine for the runtime by which it starts containers.
func defaultRuntime(ctx context.Context) (name string, answers bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := command{name: "docker", arguments: []string{"info", "--format", "{{.DefaultRuntime}}"}}.run(ctx)
	name = strings.TrimSpace(out)
	return name, err == nil && name != "" // old clients exit 0 when nothing answers
}

var boundingSet = regexp.MustCompile(`(?m)^CapBnd:\s+([0-9a-f]+)$`)

// withoutSysResource reads, from a process's status in /proc, whether the host's processes cannot have CAP_SYS_RESOURCE (number 24).
func withoutSysResource(status string) (bool, error) {
	data, err := os.ReadFile(status)
	if err != nil {
		return false, fmt.Errorf("reading this process's capabilities: %w", err)
	}
	found := boundingSet.FindSubmatch(data)
	if found == nil {
		return false, fmt.Errorf("reading this process's capabilities: %s does not say CapBnd", status)
	}
	set, err := strconv.ParseUint(string(found[1]), 16, 64)
	if err != nil {
		return false, fmt.Errorf("reading this process's capabilities: %w", err)
	}
	return set>>24&1 == 0, nil
}

// configureRuntime makes hack/kind-offline/runtime the engine's default, and leaves the rest of its configuration as it is.
func configureRuntime(ctx context.Context) error {
	say("container engine: its containers get no CAP_SYS_RESOURCE, which this host does not have (%s)", engineConfig)
	partial := runtimePath + ".partial"
	build := command{name: "go", arguments: []string{"build", "-trimpath", "-o", partial, "./hack/kind-offline/runtime"}, env: []string{"CGO_ENABLED=0"}}
	if _, err := build.run(ctx); err != nil {
		return fmt.Errorf("making the runtime: %w", err)
	}
	if err := os.Rename(partial, runtimePath); err != nil {
		return fmt.Errorf("installing the runtime: %w", err)
	}
	before, err := os.ReadFile(engineConfig)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("configuring the engine: %w", err)
	}
	after, err := withRuntime(before)
	if err != nil {
		return fmt.Errorf("configuring the engine: reading %s: %w", engineConfig, err)
	}
	if err := os.MkdirAll(filepath.Dir(engineConfig), 0o755); err != nil {
		return fmt.Errorf("configuring the engine: %w", err)
	}
	if err := os.WriteFile(engineConfig, after, 0o644); err != nil {
		return fmt.Errorf("configuring the engine: %w", err)
	}
	return nil
}

// withRuntime adds our runtime to an engine's configuration, which may be empty, and makes it the default.
func withRuntime(config []byte) ([]byte, error) {
	all := map[string]any{}
	if len(config) > 0 {
		if err := json.Unmarshal(config, &all); err != nil {
			return nil, err
		}
	}
	runtimes, _ := all["runtimes"].(map[string]any)
	if runtimes == nil {
		runtimes = map[string]any{}
	}
	runtimes[boundedRuntime] = map[string]any{"path": runtimePath}
	all["runtimes"], all["default-runtime"] = runtimes, boundedRuntime
	out, err := json.MarshalIndent(all, "", "  ")
	return append(out, '\n'), err
}

// reloadEngine lets a running engine read its configuration again; its containers stay.
func reloadEngine(ctx context.Context) error {
	text, err := os.ReadFile(engineProcess)
	if err != nil {
		return fmt.Errorf("reloading the engine: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("reloading the engine: reading %s: %w", engineProcess, err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("reloading the engine: %w", err)
	}
	return await(ctx, nil, func() bool { name, _ := defaultRuntime(ctx); return name == boundedRuntime })
}

// startEngine starts the engine by the machine's service manager, or by itself where there is none, and waits for its answer. The engine stays
// when this program ends.
func startEngine(ctx context.Context, s *store) error {
	answers := func() bool { _, ok := defaultRuntime(ctx); return ok }
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		say("container engine: starting it (systemctl start docker)")
		if _, err := (command{name: "systemctl", arguments: []string{"start", "docker"}}).run(ctx); err != nil {
			return fmt.Errorf("starting the engine: %w", err)
		}
		return await(ctx, nil, answers)
	}
	path := s.log("dockerd")
	say("container engine: starting dockerd (its log: %s)", path)
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("starting the engine: %w", err)
	}
	defer log.Close()
	dockerd := exec.Command("dockerd")
	dockerd.Stdout, dockerd.Stderr = log, log
	dockerd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := dockerd.Start(); err != nil {
		return fmt.Errorf("starting the engine: %w", err)
	}
	ended := make(chan struct{})
	go func() { // ends with dockerd, or with this program
		_ = dockerd.Wait()
		close(ended)
	}()
	if err := await(ctx, ended, answers); err != nil {
		said, _ := os.ReadFile(path)
		return fmt.Errorf("starting the engine: %w; the end of %s:\n%s", err, path, lastLines(string(said), quoted))
	}
	return nil
}

// await asks twice a second whether something is so.
func await(ctx context.Context, ended <-chan struct{}, so func() bool) error {
	deadline := time.NewTimer(engineStart)
	defer deadline.Stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return errors.New("it ended at once")
		case <-deadline.C:
			return fmt.Errorf("it does not answer as it should after %v", engineStart)
		case <-tick.C:
			if so() {
				return nil
			}
		}
	}
}

// install installs Debian packages when a program is missing.
func install(ctx context.Context, s *store, program string, packages ...string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%s is needed, and can be installed here only by hand: this is not Debian or a descendant of it", program)
	}
	say("installing %s", strings.Join(packages, ", "))
	apt := func(arguments ...string) error {
		env := []string{"DEBIAN_FRONTEND=noninteractive"}
		_, err := command{name: "apt-get", arguments: arguments, env: env, log: s.log("apt")}.run(ctx)
		return err
	}
	if err := apt("update", "-q"); err != nil {
		say("the lists of packages are not all up to date: %v", err) // those that are there may do
	}
	if err := apt(append([]string{"install", "-q", "-y", "--no-install-recommends"}, packages...)...); err != nil {
		return fmt.Errorf("installing %s: %w", strings.Join(packages, ", "), err)
	}
	return nil
}
