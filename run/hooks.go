package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"meshtest.dev/meshtest/spec"
)

// jobRunner is a mesh that can run a Kubernetes Job.
type jobRunner interface {
	// RunJob applies the objects, among which is one Job, waits until it has ended, writes what it wrote to log, and removes the objects. An error says how the Job failed.
	RunJob(ctx context.Context, objects []byte, log io.Writer) error
}

func isJob(h spec.Hook) bool { return h.Job != "" }

// beforeJobs parts what is run before the load: a job needs a mesh that stands, and what comes after it must not come before it.
func beforeJobs(hooks []spec.Hook) (before, then []spec.Hook) {
	i := slices.IndexFunc(hooks, isJob)
	if i < 0 {
		return hooks, nil
	}
	return hooks[:i], hooks[i:]
}

// afterJobs parts what is run at the end: up to the last job while the mesh stands, and the rest when it is gone.
func afterJobs(hooks []spec.Hook) (while, after []spec.Hook) {
	for i, h := range slices.Backward(hooks) {
		if isJob(h) {
			return hooks[:i+1], hooks[i+1:]
		}
	}
	return nil, hooks
}

// setUp runs what is to be run before the load, in order, until one fails.
func (c *conductor) setUp(ctx context.Context, hooks []spec.Hook) error {
	for _, h := range hooks {
		if err := c.hook(ctx, "setup", h); err != nil {
			return err
		}
	}
	return nil
}

// tearDown runs what is to be run at the end, all of it. An error is of what is required.
func (c *conductor) tearDown(hooks []spec.Hook) error {
	var errs []error
	for _, h := range hooks {
		switch err := c.hook(context.Background(), "teardown", h); {
		case err == nil:
		case h.Required:
			errs = append(errs, err)
		default:
			c.note("warning", err.Error())
		}
	}
	return errors.Join(errs...)
}

// hook runs a command or a job. The error says how it failed, and its last lines.
func (c *conductor) hook(ctx context.Context, what string, h spec.Hook) error {
	name := what + ": " + h.Name
	defer c.Waiting(name)()
	if err := c.phase(name, func() error { return c.logged(ctx, what, h) }); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// logged runs a hook with a log of its own.
func (c *conductor) logged(ctx context.Context, what string, h spec.Hook) error {
	if err := os.MkdirAll(c.logs(), 0o755); err != nil {
		return err
	}
	path := filepath.Join(c.logs(), what+"-"+h.Name+".log")
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer log.Close()
	limited, cancel := context.WithTimeoutCause(ctx, h.Timeout, fmt.Errorf("it took longer than %s", h.Timeout))
	defer cancel()
	do := c.command
	if isJob(h) {
		do = c.job
	}
	if err = do(limited, h, log); err == nil {
		return nil
	}
	if limited.Err() != nil {
		err = context.Cause(limited)
	}
	text := ""
	for _, line := range lastLines(path, 10) {
		text += "\n  | " + line
	}
	return fmt.Errorf("%w%s", err, redact(text))
}

// command runs a program of this machine, as the user who runs the scenario: with the same environment, in the scenario's folder. When ctx ends first,
// it and what it has started are killed.
func (c *conductor) command(ctx context.Context, h spec.Hook, log *os.File) error {
	seeded := func(text string) (string, error) { return spec.Expand(text, c.loadReference) }
	var words []string
	for _, word := range h.Command {
		expanded, err := seeded(word)
		if err != nil {
			return err
		}
		words = append(words, expanded)
	}
	out, err := filepath.Abs(c.Out)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, log, log
	cmd.Env = append(os.Environ(),
		"MESHTEST_RUN="+c.ID, "MESHTEST_SCENARIO="+c.Plan.Name, "MESHTEST_ENVIRONMENT="+c.Environment.Name(), "MESHTEST_OUT="+out, "SEED="+strconv.FormatUint(c.Plan.Seed, 10))
	for name, text := range h.Env {
		value, err := seeded(text)
		if err != nil {
			return err
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd.Run()
}

// job runs a Kubernetes Job, where there is Kubernetes.
func (c *conductor) job(ctx context.Context, h spec.Hook, log *os.File) error {
	if c.mesh == nil {
		return errors.New("there is no mesh that stands, so the job was not run")
	}
	jobs, ok := c.mesh.(jobRunner)
	if !ok {
		return fmt.Errorf("the environment %s cannot run jobs", c.Environment.Name())
	}
	return jobs.RunJob(ctx, h.Objects, log)
}
