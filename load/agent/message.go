package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Version of the protocol, major.minor. Another minor version is understood; another major one is refused.
const Version = "1.0"

// Errors of a Client.
var (
	// ErrLost says that the connection to the agent ended before the load did. The load there stops by itself.
	ErrLost = errors.New("the load agent was lost")
	// ErrToken says that the agent does not accept the token.
	ErrToken = errors.New("the load agent does not accept the token")
	// ErrVersion says that the agent speaks another version of the protocol.
	ErrVersion = errors.New("the load agent is of another version")
)

// hello is the first frame: a client shows who it is.
type hello struct {
	Version string `json:"version"`
	Token   string `json:"token"`
}

// welcome answers a hello.
type welcome struct {
	Version string `json:"version"`
}

// failure says why there is no result.
type failure struct {
	Code failureCode `json:"code"`
	Text string      `json:"text"`
}

type failureCode string

const (
	codeToken     failureCode = "token"
	codeVersion   failureCode = "version"
	codeCancelled failureCode = "cancelled" // stopped before it began
	codeEnding    failureCode = "ending"    // the agent itself is stopped
	codeLoad      failureCode = "load"      // the stream cannot be sent
)

func (f failure) Error() string { return f.Text }

// Is makes codes the errors of a Client.
func (f failure) Is(target error) bool {
	switch f.Code {
	case codeToken:
		return target == ErrToken
	case codeVersion:
		return target == ErrVersion
	case codeEnding:
		return target == ErrLost
	default:
		return false
	}
}

func readFailure(content []byte) error {
	var f failure
	if err := json.Unmarshal(content, &f); err != nil {
		return fmt.Errorf("%w: a failure that cannot be read: %w", errFrame, err)
	}
	f.Text = cut(f.Text)
	return f
}

// major is the part of a version that has to be equal.
func major(version string) string {
	major, _, _ := strings.Cut(version, ".")
	return major
}
