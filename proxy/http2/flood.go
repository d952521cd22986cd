package http2

import "time"

// Reasons for which a connection or a stream was ended because of its peer, as ServerOptions.Count tells them.
const (
	ReasonProtocol        = "http2_protocol"          // a connection error of another kind
	ReasonStream          = "http2_malformed"         // a stream was reset: a malformed request, or a frame that its state does not allow
	ReasonHeaders         = "http2_headers_too_large" // 431
	ReasonStreams         = "http2_too_many_streams"  // a stream was refused
	ReasonRapidReset      = "http2_rapid_reset"       // most streams were reset at once, by the peer or because of him
	ReasonContinuation    = "http2_continuation_flood"
	ReasonControlFlood    = "http2_control_flood"    // SETTINGS, PING, PRIORITY, WINDOW_UPDATE and the like beyond all need
	ReasonEmptyFrames     = "http2_empty_frames"     // frames without content
	ReasonBacklog         = "http2_unread_answers"   // the peer asks and does not read the answers
	ReasonSettingsTimeout = "http2_settings_timeout" // our SETTINGS were not acknowledged
	ReasonHeaderTimeout   = "http2_header_timeout"   // a header block took too long
	ReasonSlowRead        = "http2_slow_read"        // the peer takes nothing any more
	ReasonIdle            = "http2_idle"
	ReasonPreface         = "http2_preface"
)

// Bounds of what a peer may do for nothing.
const (
	maxControlBacklog = 1000 // answers to control frames that wait to be written (Envoy's max_outbound_control_frames)
	controlBurst      = 2000 // control frames at once
	controlRate       = 100  // and a second, for ever
	maxEmpty          = 16   // frames without content in a row
	resetsSeen        = 200  // streams after which the share of early resets counts (Envoy: 500)
	earlyReset        = time.Second
	maxBlockFrames    = 64 // of one header block
)

// meter is a token bucket for control frames, and counts what else gives an attack away.
type meter struct {
	tokens float64
	at     time.Duration
	empty  int // in a row
	opened int // streams
	early  int // of them, reset within earlyReset
}

// frame counts a control frame, and reports whether there may be more.
func (m *meter) frame(now time.Duration) bool {
	if m.at == 0 {
		m.tokens = controlBurst
	} else {
		m.tokens = min(controlBurst, m.tokens+float64(now-m.at)/float64(time.Second)*controlRate)
	}
	m.at = max(now, 1)
	m.tokens--
	return m.tokens >= 0
}

// content counts a frame that may have none, and reports whether there may be more such.
func (m *meter) content(n int) bool {
	if n > 0 {
		m.empty = 0
		return true
	}
	m.empty++
	return m.empty <= maxEmpty
}

// reset counts a stream that was reset, whoever did it, and reports whether that is still no attack.
func (m *meter) reset(age time.Duration) bool {
	if age < earlyReset {
		m.early++
	}
	return m.opened < resetsSeen || 2*m.early <= m.opened
}
