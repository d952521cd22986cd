//go:build !saboteur

package main

import (
	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/proxy"
)

// What a run's self-checks watch passes through these functions. In a binary that is built with the tag saboteur they break it, so that tests see whether the self-checks notice.

func obeyed(s wire.Sink) wire.Sink                   { return s }
func acted(f proxy.Filter) proxy.Filter              { return f }
func told(e wire.EvidenceSource) wire.EvidenceSource { return e }
