package spec

import "time"

// Stream is one stream of load. It is open loop: requests start when they are due, whether or not earlier ones have been answered, and latency counts from then.
type Stream struct {
	// Name: a letter, then letters and digits, all lower case. Requests are keyed NAME-1, NAME-2, ... in x-request-id.
	Name string `yaml:"name" spec:"required"`
	// Service that is called. Exactly one of target and gateway is set.
	Target string `yaml:"target"`
	// Gateway of the rules that requests enter through, as from outside: its rules say where they go.
	Gateway string `yaml:"gateway"`
	// With a gateway: the host that requests name.
	Host string `yaml:"host"`
	// With a gateway: its port. Default: its only one.
	Port int `yaml:"port" spec:"min=1,max=65535"`
	// A call of gRPC instead of a request of HTTP/1.1. The target must speak grpc or http2. How calls end counts as the HTTP status that stands for it: OK as 200, UNAVAILABLE as 503 (google/rpc/code.proto).
	GRPC *Call `yaml:"grpc"`
	// HTTP method. Default: GET.
	Method string `yaml:"method"`
	// Path and query. Default: /.
	Path string `yaml:"path"`
	// Request headers, or the metadata of a call. Values may hold ${seed}.
	Headers map[string]string `yaml:"headers"`
	// Request body.
	Body string `yaml:"body"`
	// Longest time to wait for an answer. Default: 10s.
	Timeout time.Duration `yaml:"timeout" spec:"positive"`
	// A constant rate. Exactly one of rate, ramp, steps and sine is set.
	Rate Rate `yaml:"rate"`
	// A rate that grows or falls linearly and then stays.
	Ramp *Ramp `yaml:"ramp"`
	// Rates one after the other; the last one stays.
	Steps []RateStep `yaml:"steps"`
	// A rate that swings around a mean.
	Sine *Sine `yaml:"sine"`
	// How requests are spaced at the rate: evenly (uniform, the default), or as independent arrivals (poisson).
	Arrival string `yaml:"arrival" spec:"enum=uniform|poisson"`
	// How long the stream lasts. Default: until the roll-out has ended; required without a roll-out.
	Duration time.Duration `yaml:"duration" spec:"positive"`
	// Most requests in flight at a time; a request that finds them all taken is late, which the run reports. Default: 1000.
	MaxInFlight int `yaml:"maxInFlight" spec:"min=1,max=100000"`
}

// Call is a call of gRPC, which begins with one message.
type Call struct {
	// The method, as /package.Service/Method.
	Method string `yaml:"method" spec:"required"`
	// A .proto file that declares the method, relative to the scenario's folder, which it and what it imports may not leave. Imports are relative to that folder too. Needed for a message.
	Proto string `yaml:"proto"`
	// The message, in the JSON mapping of protocol buffers. Default: one in which nothing is set.
	Message Message `yaml:"message"`

	// Encoded is the message as it is sent.
	Encoded []byte `yaml:"-"`
}

// Ramp is a rate that changes linearly from one value to another and then stays.
type Ramp struct {
	// Rate at the start.
	From Rate `yaml:"from" spec:"required"`
	// Rate at the end, which stays.
	To Rate `yaml:"to" spec:"required"`
	// How long the change takes.
	Over time.Duration `yaml:"over" spec:"required,positive"`
}

// RateStep is a rate that holds for some time.
type RateStep struct {
	// The rate.
	Rate Rate `yaml:"rate" spec:"required"`
	// How long it holds.
	Duration time.Duration `yaml:"duration" spec:"required,positive"`
}

// Sine is a rate that swings around a mean.
type Sine struct {
	// Mean rate.
	Mean Rate `yaml:"mean" spec:"required"`
	// How far the rate swings to each side; at most the mean.
	Amplitude Rate `yaml:"amplitude" spec:"required"`
	// Time of one whole swing.
	Period time.Duration `yaml:"period" spec:"required,positive"`
}

// Arrivals.
const (
	ArrivalUniform = "uniform"
	ArrivalPoisson = "poisson"
)
