// Package env is where it happens: an [Environment] stands a mesh up around an application, on one machine or in a cluster, and takes it down again. What it cannot do it
// says beforehand, by its capabilities.
//
// The run describes what it wants in logical terms, and never learns an address that it does not need: endpoints and listeners are
// the environment's own business.
package env

import (
	"context"
	"fmt"
	"time"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/capability"
	"meshtest.dev/meshtest/mesh"
)

// Edge is the service name of the gateway in front of the mesh: load enters through its sidecar, which no application stands behind.
const Edge = "edge"

// Environment is a plug point; every implementation passes envtest.
type Environment interface {
	// Name is how --env calls it.
	Name() string
	Capabilities() capability.Set
	// Up starts everything and returns when every application is ready and every sidecar is connected. When it fails or ctx ends, nothing is left behind. What happens is told to watch.
	Up(ctx context.Context, d Deployment, watch Watcher) (Mesh, error)
}

// Preflighter is an environment that can find out whether it could stand anything up at all, and clear away what dead runs left in the way. The error says what is missing, and how
// to get it.
type Preflighter interface {
	Preflight(ctx context.Context) error
}

// Watcher hears what an environment does, as it does it. Its methods are called from several goroutines.
type Watcher interface {
	// Process tells that a process or container changed its state.
	Process(Process)
	// Waiting tells what is being waited for, until done is called.
	Waiting(what string) (done func())
}

// Process is one process or container of the environment.
type Process struct {
	Name    string
	PID     int
	Address string
	State   ProcessState
	Exit    string // how it ended, in words
	CPU     time.Duration
	MaxRSS  int64  // bytes
	Log     string // where its output is
}

// ProcessState is where a process is in its life.
type ProcessState string

// Process states.
const (
	ProcessStarted ProcessState = "started"
	ProcessReady   ProcessState = "ready"
	ProcessExited  ProcessState = "exited"
)

// Deployment is what has to stand.
type Deployment struct {
	Run       string         // unique; labels what the environment creates
	Dir       string         // folder of the scenario; commands run in it
	Logs      string         // folder for the output of every process
	Workloads []Workload     // every instance of an application, in the mesh and outside it
	Snapshot  *mesh.Snapshot // the first configuration; the environment fills in the addresses of Endpoints and the listeners of Inbound
}

// Workload is one instance of an application.
type Workload struct {
	mesh.Workload
	External  bool   // outside the mesh: no sidecar
	Host      string // of its service, fully qualified
	Port      int    // of its service
	Protocol  mesh.Protocol
	Program   Program
	Readiness Readiness
	Upstreams []Upstream
	// Resolve says how to start the instance, now that addresses are known.
	Resolve func(Addresses) (Start, error)
}

// Upstream is a port of a service that a workload calls through its sidecar.
type Upstream struct {
	Name     string
	Host     string // fully qualified
	Port     int
	Protocol mesh.Protocol
}

// Program is what an instance runs. Exactly one field is set, but for an image that replaces the one in a manifest.
type Program struct {
	Fixture     string
	Command     []string // as written; Start has the resolved form
	Image       string
	Manifest    string   // name of the file with Kubernetes objects
	Objects     []byte   // its text: shipped scenarios have no files
	Container   string   // of the manifest's workload, whose image Image replaces; empty: its only one
	PullSecrets []string // names of secrets in the namespace, for Image
}

// Addresses are what an instance is told of its surroundings.
type Addresses interface {
	// Self is where the application has to listen.
	Self() (host string, port int)
	// Upstream is where the application finds an upstream by its name.
	Upstream(name string) (host string, port int, ok bool)
}

// Start is the resolved command line, empty for anything but a command, and the environment variables that the author declared.
type Start struct {
	Command []string
	Env     map[string]string
}

// Readiness says how to know that an application is ready.
type Readiness struct {
	Path    string // HTTP path that must answer 2xx; empty: the port must accept a connection
	Timeout time.Duration
}

// NotReady is the error of an application that did not become ready. It is the application's fault, not the environment's.
type NotReady struct {
	Workload mesh.Workload
	Reason   string
	Log      []string // its last lines
}

func (e *NotReady) Error() string {
	text := fmt.Sprintf("%s never became ready: %s", e.Workload.Instance, e.Reason)
	for _, line := range e.Log {
		text += "\n  | " + line
	}
	return text
}

// Mesh is a mesh that stands.
type Mesh interface {
	// Configure sets resources of the mesh; those that it does not name stay.
	Configure(ctx context.Context, routes ...*mesh.RouteTable) (wire.Applied, error)
	// Progress delivers what sidecars acknowledge until ctx ends or the control plane is gone.
	Progress(ctx context.Context, each func(wire.Progress)) error
	// Sidecars are those that are there now, the edge's included.
	Sidecars() []Sidecar
	// Follow tells each of every sidecar that is there, and then of those that come and go, until ctx ends; it returns nil then. Calls do not overlap. A pod that
	// replaces another is another sidecar.
	Follow(ctx context.Context, each func(Member)) error
	// Entry is where the load calls a service: the address of the edge's listener for it.
	Entry(host string, port int) (address string, ok bool)
	// Token is what load shows to the edge.
	Token() string
	// Usage is what each process has used so far, by name.
	Usage() map[string]Usage
	// Failed delivers the first end of a process that should have lived.
	Failed() <-chan error
	// Down takes everything down, and returns when nothing is left.
	Down(ctx context.Context) error
}

// Sidecar is one sidecar and how to reach it.
type Sidecar struct {
	Workload mesh.Workload
	Process  string // its name in Usage
	Direct   *wire.Direct
	Metrics  MetricsTarget
}

// Member is a sidecar that is there, or that has gone.
type Member struct {
	Sidecar
	Gone   bool
	Reason string // Gone: why, in words
}

// MetricsTarget is where a sidecar's metrics are scraped.
type MetricsTarget struct {
	Dial wire.Dial // the way there; nil: the URL's host
	URL  string    // with a placeholder host when Dial is set
}

// Loader is a mesh that can send load from inside itself: a load agent (load/agent) listens there.
type Loader interface {
	// LoadAgent is the way to it and what to show it; ok is false when load is to come from the run's own process.
	LoadAgent() (dial wire.Dial, token string, ok bool)
}

// Diagnoser is a mesh that can tell more about itself when something went wrong.
type Diagnoser interface {
	// Diagnose writes what is known (configuration dumps, statistics, events, logs) into files of the folder, which exists, and returns the last lines that are worth
	// printing. It writes as much as it can: the error says what is missing.
	Diagnose(ctx context.Context, dir string) (lines []string, err error)
}

// Disruptor is a mesh that can break what it stands on.
type Disruptor interface {
	// Disrupt breaks it and returns what was hit. heal undoes what does not heal by itself and may be nil; it is called once, on every path, and what it would undo
	// is noted where `meshtest heal` finds it before it is done.
	Disrupt(ctx context.Context, d Disruption) (hit []string, heal func(context.Context) error, err error)
}

// Disruption is a fault of what carries the mesh rather than of a request. Exactly one of the actions is set.
type Disruption struct {
	Fault   string // its name
	Service string // short name; whose pods, or the nodes that they are on; empty with KillControl
	Version string // only of this version; empty: all
	Count   int    // how many pods or nodes, chosen by Seed
	Seed    uint64

	KillPods    bool          // delete pods; whoever owns them starts others
	Grace       time.Duration // KillPods: 0 kills at once
	DrainNodes  bool          // cordon nodes and evict what is on them; healing uncordons
	KillControl bool          // delete the control plane's pods
	Scale       *int          // set the number of replicas; healing sets it back
}

// Usage is what a process has used.
type Usage struct {
	CPU time.Duration
	RSS int64 // bytes, now
}
