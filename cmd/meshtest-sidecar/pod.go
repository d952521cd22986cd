package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/internal/version"
	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy"
	"meshtest.dev/meshtest/proxy/capture"
)

const podUsage = `In a pod it knows from its environment: MESHTEST_CONTROL, the control plane's HOST:PORT; POD_NAME and POD_NAMESPACE, whom it stands beside; MESHTEST_RUN, for the log; MESHTEST_DRAIN, how long requests get to finish at
the end (5s); MESHTEST_LOG_LEVEL (INFO). In /var/run/secrets/meshtest.dev it finds its token and ca.crt, and reads them for each connection to the control plane. It serves leases and evidence on 127.0.0.1:15009, what the admin
socket serves on 127.0.0.1:15000 (writing takes the token of the direct listener), GET /metrics and /stats/prometheus on :15020 and GET /healthz/ready on :15021.
`

// Where a pod's sidecar listens beside what its configuration says. Who may connect to the first two is up to whoever may forward ports of the pod.
const (
	adminAddress   = "127.0.0.1:15000"
	directAddress  = "127.0.0.1:15009"
	metricsAddress = ":15020"
	readyAddress   = ":15021"
)

// secretsFolder is where the pod has its token for the control plane and the authority that signs the control plane's certificate.
const secretsFolder = "/var/run/secrets/meshtest.dev"

// pod is what a sidecar knows from its pod's environment.
type pod struct {
	run      string
	control  string // HOST:PORT
	instance string
	secrets  string // folder
	drain    time.Duration
	level    slog.Level
}

func readPod(getenv func(string) string) (p pod, err error) {
	p = pod{run: getenv("MESHTEST_RUN"), control: getenv("MESHTEST_CONTROL"), secrets: secretsFolder}
	for _, name := range []string{"MESHTEST_CONTROL", "POD_NAME", "POD_NAMESPACE"} {
		if getenv(name) == "" {
			err = errors.Join(err, errors.New(name+" is not set"))
		}
	}
	if p.control != "" {
		if _, _, wrong := net.SplitHostPort(p.control); wrong != nil {
			err = errors.Join(err, fmt.Errorf("MESHTEST_CONTROL: %w", wrong))
		}
	}
	p.instance = getenv("POD_NAME") + "." + getenv("POD_NAMESPACE")
	if folder := getenv("MESHTEST_SECRETS"); folder != "" {
		p.secrets = folder
	}
	if drain := getenv("MESHTEST_DRAIN"); drain != "" {
		var wrong error
		if p.drain, wrong = time.ParseDuration(drain); wrong != nil || p.drain < 0 {
			err = errors.Join(err, fmt.Errorf("MESHTEST_DRAIN: %q is no duration", drain))
		}
	}
	if level := getenv("MESHTEST_LOG_LEVEL"); level != "" {
		if wrong := p.level.UnmarshalText([]byte(level)); wrong != nil {
			err = errors.Join(err, fmt.Errorf("MESHTEST_LOG_LEVEL: %w", wrong))
		}
	}
	return p, err
}

// servePod is the verb pod.
func servePod(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if goOn, err := parse(flag.NewFlagSet("meshtest-sidecar pod", flag.ContinueOnError), args, stdout); !goOn {
		return err
	}
	p, err := readPod(getenv)
	if err != nil {
		return usageError{err}
	}
	log, level := newLog(stderr, p.level)
	log.Info("starting", "run", p.run, "instance", p.instance, "version", version.String())
	if os.Getuid() != capture.DefaultOwner && os.Getgid() != capture.DefaultOwner {
		log.Warn("the sidecar runs neither as user nor as group 1337: where traffic is captured, its own would come back to it", "uid", os.Getuid(), "gid", os.Getgid())
	}
	s, err := p.sidecar(log, level)
	if err != nil {
		return err
	}
	return s.run(ctx)
}

// sidecar makes the parts and opens the listeners; it starts nothing.
func (p pod) sidecar(log *slog.Logger, level *slog.LevelVar) (*sidecar, error) {
	s := newSidecar(proxy.Options{
		Workload: mesh.Workload{Instance: p.instance}, // the rest comes with the configuration
		Timeouts: proxy.Timeouts{Drain: p.drain}, DialApp: capture.Dial, OriginalDst: capture.OriginalDst,
	}, log)
	s.allow = s.server.KnowsDirect
	s.obey = func(ctx context.Context, sink wire.Sink) error { return p.obey(ctx, sink, log) }
	var err error
	if s.direct, err = net.Listen("tcp", directAddress); err != nil {
		return nil, fmt.Errorf("binding the direct listener: %w", err)
	}
	for _, at := range []struct {
		name, address string
		handler       http.Handler
	}{
		{"admin", adminAddress, guarded(s.server.Admin(level), s.allow, directToken)},
		{"metrics", metricsAddress, metricsOf(s.server)},
		{"readiness", readyAddress, readinessOf(s.server)},
	} {
		l, err := net.Listen("tcp", at.address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("binding the %s listener: %w", at.name, err), s.close())
		}
		s.sites = append(s.sites, site{at.name, l, at.handler})
	}
	return s, nil
}

func metricsOf(s *proxy.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.ServeMetrics)
	mux.HandleFunc("GET /stats/prometheus", s.ServeMetrics)
	return mux
}

func readinessOf(s *proxy.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", s.ServeReady)
	return mux
}

// token reads the pod's token, which is replaced long before it expires.
func (p pod) token() (string, error) {
	token, err := os.ReadFile(filepath.Join(p.secrets, "token"))
	return strings.TrimSpace(string(token)), err
}

// roots reads who may sign the control plane's certificate.
func (p pod) roots() (*x509.CertPool, error) {
	path := filepath.Join(p.secrets, "ca.crt")
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return roots, nil
}

// obey lets the sink carry out what the control plane says until ctx ends. What the control plane refuses today, a token that it could not check for instance, it may accept tomorrow, and the kubelet
// would only start the same sidecar again: so it is asked again, and the refusals are in the log.
func (p pod) obey(ctx context.Context, sink wire.Sink, log *slog.Logger) error {
	hello := wire.Hello{Instance: p.instance, TokenSource: p.token}
	return wire.Discover(ctx, wire.TLS(p.control, p.roots), hello, sink, log)
}
