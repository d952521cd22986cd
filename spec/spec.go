// Package spec says what the author wrote: the types of a scenario, read from YAML with the position of every value, checked as a whole, and every problem
// reported at once as a [Diagnostic] that names file, line and column, what is wrong and what would be right.
//
// Nothing here acts: validating reads the scenario's own folder and executes nothing. The doc comments of the types are the descriptions in the published
// JSON Schema, so they are written for authors of scenarios.
package spec

import "time"

//go:generate go run ./gen -o ../fixtures/schema/scenario.v1.schema.json

// Words of the envelope.
const (
	APIVersion = "meshtest.dev/v1"
	Kind       = "Scenario"
)

// Environments in which a scenario can run.
const (
	EnvLocal      = "local"      // every workload and sidecar a process of this machine
	EnvKind       = "kind"       // a kind cluster that the run creates
	EnvKubernetes = "kubernetes" // a cluster that is there
)

// Scenario is one test: the services, the load on them, the roll-out to judge, what goes wrong meanwhile, and what to expect.
type Scenario struct {
	// Version of this format: meshtest.dev/v1.
	APIVersion string `yaml:"apiVersion" spec:"required,enum=meshtest.dev/v1"`
	// Always Scenario.
	Kind string `yaml:"kind" spec:"required,enum=Scenario"`
	// Name and purpose.
	Metadata Metadata `yaml:"metadata" spec:"required"`
	// Environments in which the scenario can run. Default: local and kind.
	Environments []string `yaml:"environments" spec:"enum=local|kind|kubernetes"`
	// Namespace of the services. It is logical: labels, identities, metrics and reports use it in every environment. Default: default.
	Namespace string `yaml:"namespace" spec:"name"`
	// Seed of every chance draw. The same seed splits and faults the same requests. Default: random, and printed.
	Seed *uint64 `yaml:"seed"`
	// Longest time of the whole run after the environment is up. Default: 5m.
	Timeout time.Duration `yaml:"timeout" spec:"positive"`
	// Services in the mesh, by name. Each instance gets a sidecar.
	Services map[string]*Service `yaml:"services" spec:"required,name"`
	// Plain services outside the mesh, by name: no sidecar, no identity.
	External map[string]*External `yaml:"external" spec:"name"`
	// What workloads may reach outside the mesh. Default: what the rules allow.
	OutboundTrafficPolicy OutboundTrafficPolicy `yaml:"outboundTrafficPolicy"`
	// What is told of single requests.
	Tracing Tracing `yaml:"tracing"`
	// Mesh rules, inline or by file: Istio's VirtualService, DestinationRule, ServiceEntry and Gateway, Secrets with certificates for it, the old EgressRule, and the HealthCheckPolicy and RateLimitPolicy of
	// meshtest.dev/v1.
	Rules []Rule `yaml:"rules"`
	// What is run before the load, in order. Commands run before anything is started; a job, and everything after the first one, when the mesh stands.
	Setup []Hook `yaml:"setup"`
	// What is run at the end, in order and whatever happened. Jobs, and everything before the last one, run while the mesh stands; commands after it, when it is gone.
	Teardown []Hook `yaml:"teardown"`
	// Streams of open-loop load. Each enters the mesh through the edge.
	Load []Stream `yaml:"load"`
	// The progressive roll-out of a new version, judged on evidence.
	Rollout *Rollout `yaml:"rollout"`
	// What goes wrong on purpose, where, when and how often.
	Faults []Fault `yaml:"faults"`
	// What must hold for the run to pass. Without it, a roll-out is expected to be promoted.
	Expect *Expect `yaml:"expect"`

	// Files are the texts of the files that rules name, such as certificates, by the names that the rules say; those that cannot be read are missing.
	Files map[string][]byte `yaml:"-"`

	source *source
}

// Tracing says of which requests sidecars tell spans, from which the run makes traces.
type Tracing struct {
	// Share of the traces that are recorded, drawn by the request's key. Default: 1%, Istio's.
	Sampling *Percent `yaml:"sampling" spec:"min=0,max=100"`
}

// Metadata names the scenario.
type Metadata struct {
	// Name, a DNS label; the default folder of the results is named after it.
	Name string `yaml:"name" spec:"required,name"`
	// One line that says what the scenario is for.
	Description string `yaml:"description"`
}

// Service is one service of the mesh, in one or more versions.
type Service struct {
	// Port of the service. In the local environment without root it must be 1024 or more.
	Port int `yaml:"port" spec:"required,min=1,max=65535"`
	// How the bytes of the port are understood: as requests of HTTP/1.1 (http), of HTTP/2 without TLS (http2), of gRPC (grpc), as TLS that is passed on (tls) or as they are (tcp). Default: http.
	Protocol string `yaml:"protocol" spec:"enum=http|http2|grpc|tls|tcp"`
	// Versions by name. Version V of service NAME is the workload NAME-V with the labels app=NAME and version=V.
	Versions map[string]*Version `yaml:"versions" spec:"required,name"`
}

// Version is one version of a service.
type Version struct {
	// Number of instances. Default: 1.
	Replicas int `yaml:"replicas" spec:"min=1,max=64"`
	// What to run.
	Run Run `yaml:"run" spec:"required"`
	// Services that it calls by their names, besides those that env and command refer to.
	Calls []string `yaml:"calls"`
	// Environment variables. Values may refer to ${service.NAME.url}, ${service.NAME.host}, ${service.NAME.port}, ${external.NAME.url}, ${self.host}, ${self.port},
	// ${self.name}, ${self.version} and ${seed}; $${ stands for ${. HOST, PORT, SERVICE_NAME, SERVICE_VERSION and SEED are always set.
	Env map[string]string `yaml:"env"`
	// How to know that an instance is ready.
	Readiness Readiness `yaml:"readiness"`
}

// External is a plain service outside the mesh. Workloads reach it when a ServiceEntry or an EgressRule among the rules names it, or the outbound traffic policy is ALLOW_ANY.
type External struct {
	// Port of the service. In the local environment without root it must be 1024 or more.
	Port int `yaml:"port" spec:"required,min=1,max=65535"`
	// How the bytes of the port are understood: as requests of HTTP/1.1 (http), of HTTP/2 without TLS (http2), of gRPC (grpc), as TLS that is passed on (tls) or as they are (tcp). Default: http.
	Protocol string `yaml:"protocol" spec:"enum=http|http2|grpc|tls|tcp"`
	// What to run.
	Run Run `yaml:"run" spec:"required"`
	// Environment variables, as in a version of a service; ${self.version} is empty.
	Env map[string]string `yaml:"env"`
	// How to know that it is ready.
	Readiness Readiness `yaml:"readiness"`
}

// Run says what program an instance is: a fixture, a command, an image, or a manifest, whose image can be replaced.
type Run struct {
	// A sample application of meshtest-fixture, such as chain or time.
	Fixture string `yaml:"fixture"`
	// Any program of this machine and its arguments, which may hold ${...} references like env.
	Command []string `yaml:"command"`
	// A container image. Beside a manifest it replaces the image of the workload's container.
	Image string `yaml:"image"`
	// A file with Kubernetes objects, relative to the scenario's folder, which it may not leave. Among them must be a Deployment whose pods have the
	// labels app=NAME and version=VERSION, or app=NAME alone when the service has one version. It is applied as it is.
	Manifest string `yaml:"manifest"`
	// Container of the manifest's workload whose image is replaced. Default: its only one.
	Container string `yaml:"container"`
	// Secrets in the namespace with which the image is pulled.
	PullSecrets []string `yaml:"pullSecrets"`

	// Objects is the text of the manifest.
	Objects []byte `yaml:"-"`
}

// Readiness says how to know that an instance is ready. The default is an HTTP path, /healthz, for a fixture and a TCP connection for anything else.
type Readiness struct {
	// HTTP path that answers 2xx when the instance is ready.
	Path string `yaml:"path"`
	// Ready as soon as the port accepts a TCP connection.
	TCP bool `yaml:"tcp"`
	// How long to wait for it. Default: 30s.
	Timeout time.Duration `yaml:"timeout" spec:"positive"`
}

// Hook is something that is run before or after the test: a command of this machine, or a Kubernetes Job. Its output is in the folder logs.
type Hook struct {
	// Name, a DNS label.
	Name string `yaml:"name" spec:"required,name"`
	// A program of this machine and its arguments, run in the scenario's folder in every environment. Arguments may hold ${seed}.
	Command []string `yaml:"command"`
	// A file with one Kubernetes Job, and what else it needs, relative to the scenario's folder, which it may not leave.
	Job string `yaml:"job"`
	// Longest time that it may take. Default: 1m.
	Timeout time.Duration `yaml:"timeout" spec:"positive"`
	// Environment variables of the command. Values may hold ${seed}.
	Env map[string]string `yaml:"env"`
	// In teardown: whether its failure makes the run invalid. Default: false, which makes it a warning.
	Required bool `yaml:"required"`

	// Objects is the text of the job's file.
	Objects []byte `yaml:"-"`
}

// Rule is mesh configuration: a file of documents or one inline document. After loading it holds the documents themselves, so that readers need not care where they
// stood.
type Rule struct {
	// YAML file with one or more documents of rules, relative to the scenario's folder, which it may not leave.
	File string `yaml:"file"`

	// Documents are the parsed documents of the file, or the inline one.
	Documents []Document `yaml:"-"`
}
