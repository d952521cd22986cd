package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	apidiscovery "k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"meshtest.dev/meshtest/env/kube/discovery"
	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
	"meshtest.dev/meshtest/internal/version"
)

// clusterOptions are the flags of a control plane in a cluster.
type clusterOptions struct {
	namespaces   namespaceFlag
	run          string
	secrets      string
	sidecarImage string
	logLevel     slog.Level
	kubeconfig   string
}

func clusterFlags(flags *flag.FlagSet) *clusterOptions {
	o := &clusterOptions{namespaces: namespaceFlag{}}
	flags.Var(o.namespaces, "namespace", "")
	flags.StringVar(&o.run, "run", "", "")
	flags.StringVar(&o.secrets, "secrets", names.SecretsDir, "")
	flags.StringVar(&o.sidecarImage, "sidecar-image", "", "")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "")
	return o
}

// namespaceFlag is REAL[=LOGICAL], as often as wanted.
type namespaceFlag map[string]string

func (f namespaceFlag) String() string { return "" }

func (f namespaceFlag) Set(text string) error {
	real, logical, mapped := strings.Cut(text, "=")
	if !mapped {
		logical = real
	}
	for _, name := range []string{real, logical} {
		if len(content.IsDNS1123Label(name)) > 0 {
			return fmt.Errorf("%q is no name of a namespace: want REAL or REAL=LOGICAL", name)
		}
	}
	if _, twice := f[real]; twice {
		return fmt.Errorf("%s is there already", real)
	}
	f[real] = logical
	return nil
}

func (o *clusterOptions) check() error {
	switch {
	case len(o.namespaces) == 0:
		return usageError{errors.New("--namespace is missing: where the applications are")}
	case o.sidecarImage == "":
		return usageError{errors.New("--sidecar-image is missing: what to inject")}
	default:
		return nil
	}
}

// serveCluster is the control plane of a cluster.
func serveCluster(ctx context.Context, o *clusterOptions, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: o.logLevel}))
	c, err := newCluster(o, log)
	if err != nil {
		return err
	}
	klog.SetSlogLogger(log) // what the client of the API server has to say
	log.Info("starting", "pod", c.pod, "namespace", c.system, "applications", o.namespaces, "istio", len(c.source.Istio), "version", version.String())
	return c.run(ctx)
}

func newCluster(o *clusterOptions, log *slog.Logger) (*cluster, error) {
	c := &cluster{pod: os.Getenv("POD_NAME"), system: os.Getenv("POD_NAMESPACE"), secrets: secrets{o.secrets}, log: log, listen: listen}
	if c.pod == "" || c.system == "" {
		return nil, errors.New("POD_NAME and POD_NAMESPACE have to say which pod this is")
	}
	config, err := clientConfig(o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	c.source = discovery.Source{Client: c.client, Dynamic: objects, Discovery: c.client.Discovery(), Namespaces: o.namespaces, System: c.system, Log: log}
	return c, c.find(o)
}

// find asks the API server what it is like, and the volume for what nobody else may know.
func (c *cluster) find(o *clusterOptions) (err error) {
	if c.source.Istio, err = discovery.IstioKinds(c.client.Discovery()); err != nil {
		return err
	}
	if c.inject, err = injection(c.client.Discovery(), o, c.system); err != nil {
		return err
	}
	if c.ownerToken, err = c.secrets.read(names.KeyOwnerToken); err != nil {
		return err
	}
	c.source.Key, err = c.secrets.read(names.KeyInstanceKey)
	return err
}

// clientConfig is for requests in bursts: when a control plane begins, every sidecar asks to be recognised at once.
func clientConfig(kubeconfig string) (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 100, 300
	config.UserAgent = "meshtest-control/" + version.String()
	return config, nil
}

func listen(port int) (net.Listener, error) { return net.Listen("tcp", ":"+strconv.Itoa(port)) }

// secrets is the folder of a volume.
type secrets struct{ dir string }

func (s secrets) read(name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return "", fmt.Errorf("reading what is secret: %w", err)
	}
	content = bytes.TrimSpace(content)
	if len(content) == 0 {
		return "", fmt.Errorf("reading what is secret: %s is empty", filepath.Join(s.dir, name))
	}
	return string(content), nil
}

// certificate is the current one: the kubelet replaces the files when the Secret changes.
func (s secrets) certificate() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "tls.crt"), filepath.Join(s.dir, "tls.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	return &pair, nil
}

// nativeSidecars is the first version of Kubernetes that lets init containers go on.
var nativeSidecars = utilversion.MustParseGeneric("1.29.0")

// injection is what is injected, as the cluster can have it.
func injection(api apidiscovery.ServerVersionInterface, o *clusterOptions, system string) (inject.Config, error) {
	info, err := api.ServerVersion()
	if err != nil {
		return inject.Config{}, fmt.Errorf("asking the API server for its version: %w", err)
	}
	v, err := utilversion.ParseGeneric(info.GitVersion)
	if err != nil {
		return inject.Config{}, fmt.Errorf("reading the API server's version: %w", err)
	}
	c := inject.Config{
		Image: o.sidecarImage, RunID: o.run, LogLevel: o.logLevel.String(), NativeSidecars: v.AtLeast(nativeSidecars),
		ControlAddress: net.JoinHostPort(names.Control+"."+system+".svc", strconv.Itoa(names.PortControl)),
		Namespaces:     slices.Sorted(maps.Keys(o.namespaces)),
	}
	return c, c.Validate()
}
