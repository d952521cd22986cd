package http2

import "time"

// What costs a peer nothing and us something is counted, by kind. Each kind has a burst; what was used of it is given back with time, and with progress, because well-behaved peers send such frames
// along with content. The numbers leave room for the most talkative of them (a WINDOW_UPDATE for the stream and one for the connection with each frame of DATA, gRPC's PINGs with each one too, a PRIORITY with
// each request) and end an attack within a few KiB.
type kind uint8

const (
	kindSettings kind = iota
	kindPing
	kindPriority
	kindWindowUpdate
	kindEmpty   // DATA without content, which is not the last of its stream
	kindStray   // frames that mean nothing: of unknown types, or for streams that are over
	kindRefused // streams that ended before they were of any use: reset by the peer, or malformed, or one too many
	numKinds
)

// allowances are what each kind may use. Envoy's limits are, for comparison: 100 PRIORITY frames a stream, 10 WINDOW_UPDATEs a frame of DATA, 1 empty frame in a row, and resets of half of all streams after the
// first 500.
var allowances = [numKinds]struct {
	burst       float64
	perSecond   float64
	perProgress float64 // for each frame of content, or stream, in either direction
	reason      string
}{
	kindSettings:     {burst: 100, perSecond: 10, reason: ReasonSettingsFlood},
	kindPing:         {burst: 200, perSecond: 50, perProgress: 1, reason: ReasonPingFlood},
	kindPriority:     {burst: 500, perSecond: 10, perProgress: 2, reason: ReasonPriorityFlood},
	kindWindowUpdate: {burst: 1000, perSecond: 50, perProgress: 4, reason: ReasonWindowUpdateFlood},
	kindEmpty:        {burst: 32, perSecond: 10, perProgress: 0.5, reason: ReasonEmptyFrames},
	kindStray:        {burst: 200, perSecond: 20, perProgress: 1, reason: ReasonStrayFrames},
	kindRefused:      {perSecond: 100, reason: ReasonRapidReset}, // its burst is an option; each stream that ends well gives one back
}

// meter counts.
type meter struct {
	used     [numKinds]float64
	at       [numKinds]time.Duration
	seen     [numKinds]uint64
	progress uint64
	refused  float64 // the burst of kindRefused
}

// spend counts one, and gives an error when it was one too many.
func (m *meter) spend(k kind, now time.Duration) error {
	a := &allowances[k]
	back := float64(now-m.at[k])/float64(time.Second)*a.perSecond + float64(m.progress-m.seen[k])*a.perProgress
	m.used[k] = max(0, m.used[k]-back) + 1
	m.at[k], m.seen[k] = now, m.progress
	burst := a.burst
	if k == kindRefused {
		burst = m.refused
	}
	if m.used[k] > burst {
		return calm(a.reason)
	}
	return nil
}

// ended notes a stream that ended well.
func (m *meter) ended() { m.used[kindRefused] = max(0, m.used[kindRefused]-1) }

// Bounds without an allowance.
const (
	maxControl     = 1000 // answers to control frames that wait to be written (Envoy: 1,000; Go: 10,000)
	maxBlockFrames = 64   // of one header block; one of 32 KiB needs three
	blockFactor    = 2    // encoded bytes of a header block, in sizes of the largest head: more are not even decoded
)
