// Package wire is how instructions travel: the messages between the control plane, the sidecars and the run, and the client's end of each
// conversation.
//
// There are three. [Discover] is a sidecar's conversation with the control plane; [Configuration] is how whoever owns the configuration changes it
// there; [Direct] is how the run leases faults to a sidecar and receives its evidence and its spans, and [ServeDirect] the sidecar's end of that. Bodies are the JSON of
// package mesh's types in an envelope of protobuf (package pb).
package wire

import (
	"fmt"
	"strconv"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// Version is the protocol's MAJOR.MINOR. Minor versions only add, so any two of one major understand each other.
const Version = "1.0"

// Everything is the name by which a subscriber asks for all resources of a kind in its scope.
const Everything = "*"

// MaxMessage bounds a message in bytes: a whole configuration of 10,000 endpoints is a tenth of it.
const MaxMessage = 64 << 20

// Hello is how a sidecar introduces itself to the control plane.
type Hello struct {
	Instance string // workload instance
	Token    string // as InstanceToken derives it

	// TokenSource, when there is one, is asked for every connection, and Token is of no account. A control plane that refuses such a token is asked again: the next one may be better.
	TokenSource TokenSource
}

// TokenSource reads a token that may have been renewed since it was last read, such as a service account's in a pod.
type TokenSource func() (string, error)

// source is where the token of a connection comes from.
func (h Hello) source() TokenSource {
	if h.TokenSource != nil {
		return h.TokenSource
	}
	return fixed(h.Token)
}

func fixed(token string) TokenSource { return func() (string, error) { return token, nil } }

// State is what a [Progress] tells.
type State string

// States.
const (
	Connected    State = "connected"
	Disconnected State = "disconnected"
	Acked        State = "acked"     // the instance has everything up to the generation
	Nacked       State = "nacked"    // the instance refused something of the generation, and keeps the last good
	Converged    State = "converged" // every connected sidecar has everything up to the generation
)

// Progress tells how configuration arrives at one sidecar or, without an instance, at all of them.
type Progress struct {
	Generation mesh.Generation
	Instance   string
	State      State
	Error      string   // Nacked: the sidecar's reason
	Sidecars   int      // Converged: how many are connected
	Absent     []string // Converged: instances that have listeners configured and are not connected, sorted
}

// Change is a change of configuration.
type Change struct {
	Whole  bool                   // Set is all there is: every other resource is removed
	Set    *mesh.Snapshot         // may be nil in a change that only removes
	Remove map[mesh.Kind][]string // by name; removing what is not there is no error
}

// Applied tells what a change did. A change that changes nothing has no new generation and affects nobody.
type Applied struct {
	Generation mesh.Generation
	Affected   []string // connected sidecars that now have something to acknowledge, sorted
}

// RefusedError is the answer to a change that would leave the configuration unsound. Nothing of the change was carried out.
type RefusedError struct {
	Mistakes []string // all of them
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the configuration was refused: %s", strings.Join(e.Mistakes, "; "))
}

// EpochError says that the generation asked about is of another life of the control plane, which has forgotten it.
type EpochError struct {
	Asked   mesh.Generation
	Current mesh.Generation
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("generation %s is unknown: the control plane began anew and is at %s, so the configuration has to be applied again", e.Asked, e.Current)
}

// checkVersion returns nil when a peer that speaks the given version is understood, and otherwise an error of one sentence.
func checkVersion(peer string) error {
	theirs, ours := major(peer), major(Version)
	switch {
	case theirs < 0:
		return fmt.Errorf("the caller did not say in the form MAJOR.MINOR which protocol it speaks, but %q", peer)
	case theirs != ours:
		return fmt.Errorf("the caller speaks protocol %s and this side %s: use the same release of meshtest on both sides", peer, Version)
	default:
		return nil
	}
}

// major is the major of a version, or -1 when it has not the form MAJOR.MINOR.
func major(version string) int {
	first, second, found := strings.Cut(version, ".")
	number, err := strconv.ParseUint(first, 10, 16)
	if _, bad := strconv.ParseUint(second, 10, 16); !found || err != nil || bad != nil {
		return -1
	}
	return int(number)
}
