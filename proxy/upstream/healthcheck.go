package upstream

import (
	"errors"

	"meshtest.dev/meshtest/mesh"
)

// verdict is what active checks say of an endpoint.
type verdict uint8

const (
	unasked verdict = iota // or asked, without an answer yet
	passed
	failed
)

// check is an active health check.
type check struct{ mesh.HealthCheck }

func newCheck(d Destination) (*check, error) {
	if d.Policy.HealthCheck == nil {
		return nil, nil
	}
	return nil, errors.New("active health checks are not carried out yet")
}
