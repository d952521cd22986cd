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

// Program is what an instance runs; exactly one field is set.
type Program struct {
	Fixture  string
	Command  []string // as written; Start has the resolved form
	Image    string
	Manifest string
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
	// Sidecars are all of them, the edge included.
	Sidecars() []Sidecar
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

// MetricsTarget is where a sidecar's metrics are scraped.
type MetricsTarget struct {
	Socket string // Unix socket; empty: TCP
	URL    string // with a placeholder host when Socket is set
}

// Usage is what a process has used.
type Usage struct {
	CPU time.Duration
	RSS int64 // bytes, now
}
