package mesh

import (
	"strings"
	"time"
)

// Headers that the mesh itself reads or writes. Edges strip the x-meshtest ones from strangers.
const (
	HeaderRequestID = "x-request-id"      // the request key
	HeaderReason    = "x-meshtest-reason" // on every answer that the mesh itself made
	HeaderToken     = "x-meshtest-token"  // proves to an edge that the run's own load is calling
	HeaderConfig    = "x-meshtest-config" // generation that answered, for those who ask for it
	HeaderPeer      = "x-meshtest-peer"   // who sends, as labels tell it: from sidecar to sidecar, never to an application (telemetry.AppendPeer)
)

// Stream is the load stream that a request key names: keys are STREAM-SEQ. A key of another form has no stream.
func Stream(key string) string {
	i := strings.LastIndexByte(key, '-')
	if i <= 0 || i == len(key)-1 {
		return ""
	}
	for _, c := range []byte(key[i+1:]) {
		if c < '0' || c > '9' {
			return ""
		}
	}
	return key[:i]
}

// EvidenceBlock is what the caller-side sidecar of an edge saw in a short stretch of time: the raw material of every judgement.
type EvidenceBlock struct {
	Instance string          `json:"instance"` // workload instance of the sidecar
	Seq      uint64          `json:"seq"`      // grows by one a block, so that a gap is seen
	Start    time.Duration   `json:"start"`    // since the sidecar started, on its own monotonic clock
	End      time.Duration   `json:"end"`
	Cells    []EvidenceCell  `json:"cells,omitempty"`
	Errors   []EvidenceError `json:"errors,omitempty"` // samples, each at most once; counts are in the cells
	Edges    []EdgeCount     `json:"edges,omitempty"`
}

// EvidenceCell counts logical requests of one kind that ended in the block.
type EvidenceCell struct {
	Edge       Edge          `json:"edge"`
	Stream     string        `json:"stream,omitempty"` // of the request key
	Route      string        `json:"route"`
	Version    string        `json:"version"`         // of the destination that was chosen, also when it could not be reached
	Share      float64       `json:"share,omitempty"` // the chance with which the route's split chooses this version; 0: not by a split
	Generation Generation    `json:"generation"`
	Requests   uint64        `json:"requests"`
	Failed     uint64        `json:"failed"`             // status 5xx, or no whole answer
	ByFault    uint64        `json:"byFault,omitempty"`  // of the failed: an injected fault answered
	ByMesh     uint64        `json:"byMesh,omitempty"`   // of the failed: the mesh answered for another reason
	Attempts   uint64        `json:"attempts"`           // sent upstream, retries included
	AttemptsKO uint64        `json:"attemptsKO"`         // of them, failed
	Latency    []uint64      `json:"latency,omitempty"`  // of requests that succeeded: sparse internal/hist (index, count, index, count ...)
	LatencySum time.Duration `json:"latencySum"`         // of the same requests
	FailedSum  time.Duration `json:"failedSum,omitzero"` // of the failed ones
}

// EvidenceError is one failed request.
type EvidenceError struct {
	At      time.Duration `json:"at"` // when it ended, since the sidecar started
	Edge    Edge          `json:"edge"`
	Key     string        `json:"key"`
	Version string        `json:"version"`
	Route   string        `json:"route"`
	Status  int           `json:"status"`
	Reason  string        `json:"reason,omitempty"` // of x-meshtest-reason, when the mesh answered
	Latency time.Duration `json:"latency"`
}

// EdgeCount counts, per edge, requests whose key the sidecar had to mint because they carried none.
type EdgeCount struct {
	Edge   Edge   `json:"edge"`
	Seen   uint64 `json:"seen"`
	Minted uint64 `json:"minted"`
}

// Failed reports whether an HTTP status counts as a failure of the callee: 5xx, as in Istio's and Flagger's success rate.
func Failed(status int) bool { return status >= 500 }
