package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/cluster"
)

// answering is how long a container engine may take to say that it is there.
const answering = 10 * time.Second

// envProvider is kind's own choice between several engines.
const envProvider = "KIND_EXPERIMENTAL_PROVIDER"

// Preflight is nil when a container engine answers.
func Preflight(ctx context.Context) error {
	_, err := engine(ctx)
	return err
}

func provider(ctx context.Context, l logger) (*cluster.Provider, error) {
	option, err := engine(ctx)
	if err != nil {
		return nil, err
	}
	return cluster.NewProvider(option, cluster.ProviderWithLogger(l)), nil
}

// engine is how kind reaches the container engine that answers.
func engine(ctx context.Context) (cluster.ProviderOption, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answering, fmt.Errorf("not within %s", answering))
	defer cancel()
	chosen := os.Getenv(envProvider)
	var tried []string
	for _, e := range []struct {
		name   string
		option func() cluster.ProviderOption
	}{{"docker", cluster.ProviderWithDocker}, {"podman", cluster.ProviderWithPodman}} {
		if chosen != "" && chosen != e.name {
			continue
		}
		trouble := answers(ctx, e.name)
		if trouble == "" {
			return e.option(), nil
		}
		tried = append(tried, trouble)
	}
	if len(tried) == 0 {
		return nil, fmt.Errorf("$%s is %q, which is neither docker nor podman", envProvider, chosen)
	}
	return nil, fmt.Errorf("a kind cluster needs a container engine, and none answers: %s; start one, such as with `systemctl start docker`, or where no image can be pulled with hack/kind-offline/up",
		strings.Join(tried, ", "))
}

// answers is empty when the engine answers, and otherwise says why it does not.
func answers(ctx context.Context, engine string) string {
	path, err := exec.LookPath(engine)
	if err != nil {
		return engine + " is not installed"
	}
	format := "{{.ServerVersion}}"
	if engine == "podman" {
		format = "{{.Version.Version}}"
	}
	out, err := exec.CommandContext(ctx, path, "info", "--format", format).CombinedOutput()
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil:
		return fmt.Sprintf("%s does not answer (%v)", engine, context.Cause(ctx))
	case strings.Contains(string(out), "permission denied"):
		return fmt.Sprintf("%s may not be used by this user (%s)", engine, lastLine(out, err))
	default:
		return fmt.Sprintf("%s does not answer (%s)", engine, lastLine(out, err))
	}
}

// lastLine is the last of an output that says something, or else the error.
func lastLine(out []byte, err error) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return err.Error()
}
