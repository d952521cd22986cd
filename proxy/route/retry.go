package route

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"meshtest.dev/meshtest/mesh"
)

// RetryOn is the conditions of a retry policy, compiled: what is asked after each attempt costs a few instructions. The zero value holds never. Its meaning is Envoy's.
type RetryOn struct {
	on       uint16 // a bit for each of retryConditions
	statuses []int
}

// retryConditions are all there are.
var retryConditions = [...]mesh.RetryOn{
	mesh.On5xx, mesh.OnGatewayError, mesh.OnReset, mesh.OnConnectFailure, mesh.OnRetriable4xx, mesh.OnRetriableStatus, mesh.OnRefusedStream, mesh.OnResetBefore,
	mesh.OnCancelled, mesh.OnDeadlineExceeded, mesh.OnInternal, mesh.OnResourceExhausted, mesh.OnUnavailable,
}

const (
	on5xx uint16 = 1 << iota
	onGatewayError
	onReset
	onConnectFailure
	onRetriable4xx
	onRetriableStatus
	onRefusedStream
	onResetBefore
	onCancelled
	onDeadlineExceeded
	onInternal
	onResourceExhausted
	onUnavailable
)

// grpcCondition are the conditions about gRPC's statuses, by their numbers.
var grpcCondition = [...]uint16{1: onCancelled, 4: onDeadlineExceeded, 8: onResourceExhausted, 13: onInternal, 14: onUnavailable}

func compileRetryOn(r *mesh.Retry) (RetryOn, error) {
	var out RetryOn
	if r == nil {
		return out, nil
	}
	for _, word := range r.On {
		i := slices.Index(retryConditions[:], word)
		if i < 0 {
			return out, fmt.Errorf("retry: unknown condition %q", word)
		}
		out.on |= 1 << i
	}
	if out.on&onRetriableStatus != 0 {
		out.statuses = r.Statuses
	}
	return out, nil
}

// CompileRetryOn compiles the conditions of a policy, without those that do not exist.
func CompileRetryOn(r *mesh.Retry) RetryOn {
	known := *r
	known.On = slices.DeleteFunc(slices.Clone(r.On), func(c mesh.RetryOn) bool { return !slices.Contains(retryConditions[:], c) })
	out, _ := compileRetryOn(&known) // nothing is left to be wrong
	return out
}

// Status reports whether an answer with that status is followed by another attempt.
func (r *RetryOn) Status(status int) bool {
	switch {
	case status >= 500 && r.on&on5xx != 0,
		status >= 502 && status <= 504 && r.on&onGatewayError != 0,
		status == 409 && r.on&onRetriable4xx != 0:
		return true
	default:
		return slices.Contains(r.statuses, status)
	}
}

// GRPC reports whether an answer is followed by another attempt whose head has that grpc-status.
func (r *RetryOn) GRPC(status []byte) bool {
	n, err := strconv.Atoi(string(status))
	return err == nil && n >= 0 && n < len(grpcCondition) && r.on&grpcCondition[n] != 0
}

// Failure is how an attempt ended that was not answered.
type Failure uint8

// Failures.
const (
	Unreached   Failure = iota // there was no connection
	NotBegun                   // the connection ended before anything of the request was sent on it
	Refused                    // HTTP/2 refused the stream before it was processed
	Interrupted                // any other way: the connection or the stream was reset, the answer was none, or it did not come in time
)

// Fails reports whether an attempt that ended so is followed by another one.
func (r *RetryOn) Fails(f Failure) bool {
	on := on5xx | onGatewayError | onReset
	switch f {
	case Unreached:
		on |= onConnectFailure | onResetBefore
	case NotBegun:
		on |= onResetBefore
	case Refused:
		on |= onRefusedStream
	}
	return r.on&on != 0
}

// Backoff is the wait before the retry that follows attempt number n (from 1), by a draw: full jitter in [0, min(base*(2^n-1), 10*base)), as in Envoy, and at least the policy's minimum.
func Backoff(r *mesh.Retry, attempt uint32, draw mesh.Draw) time.Duration {
	ceiling := 10 * r.BackoffBase
	if attempt < 4 { // 2^4-1 is above 10
		ceiling = min(ceiling, r.BackoffBase*(1<<attempt-1))
	}
	wait := time.Duration(float64(draw>>11) / (1 << 53) * float64(ceiling))
	return max(wait, r.BackoffMin)
}

// withBackoff is a policy whose BackoffBase is set.
func (c *tableCompiler) withBackoff(r *mesh.Retry) *mesh.Retry {
	if r == nil || r.BackoffBase > 0 {
		return r
	}
	with := c.retries[r]
	if with == nil {
		with = new(*r)
		with.BackoffBase = mesh.DefaultBackoffBase
		c.retries[r] = with
	}
	return with
}
