package http2

import (
	"fmt"

	"golang.org/x/net/http2"
)

// Reasons for which a connection or a stream was ended because of its peer, as Options.Count tells them.
const (
	// Of streams, which are refused or reset alone.
	ReasonMalformed = "http2_malformed"         // the request or answer breaks RFC 9113, 8
	ReasonHeaders   = "http2_headers_too_large" // 431
	ReasonStreams   = "http2_too_many_streams"
	ReasonStalled   = "http2_stalled_window" // the peer gives no window to what waits to be sent
	ReasonInterim   = "http2_interim_flood"  // interim answers that nobody could read as fast

	// Of connections.
	ReasonProtocol          = "http2_protocol" // frames that RFC 9113 does not allow, or not there
	ReasonPreface           = "http2_preface"
	ReasonFlowControl       = "http2_flow_control"
	ReasonFrameSize         = "http2_frame_size"
	ReasonCompression       = "http2_compression"
	ReasonClosedStream      = "http2_closed_stream" // frames for a stream that the peer itself has ended
	ReasonRapidReset        = "http2_rapid_reset"   // streams that were reset at once, by the peer or because of him
	ReasonHeaderFlood       = "http2_header_flood"  // a header block without end
	ReasonContinuation      = "http2_continuation_flood"
	ReasonSettingsFlood     = "http2_settings_flood"
	ReasonPingFlood         = "http2_ping_flood"
	ReasonPriorityFlood     = "http2_priority_flood"
	ReasonWindowUpdateFlood = "http2_window_update_flood"
	ReasonEmptyFrames       = "http2_empty_frames"
	ReasonStrayFrames       = "http2_stray_frames"
	ReasonUnread            = "http2_unread_answers" // the peer asks and does not read the answers
	ReasonSettingsTimeout   = "http2_settings_timeout"
	ReasonHeaderTimeout     = "http2_header_timeout" // a header block, or another frame but DATA, took too long
	ReasonSlowRead          = "http2_slow_read"      // the peer takes nothing any more, because his end is full or because he gives no window
	ReasonPingTimeout       = "http2_ping_timeout"
	ReasonIdle              = "http2_idle"
	ReasonRequests          = "http2_max_requests" // the connection has carried as many as one may; it ends in good order
)

// connectionError ends the connection, with a GOAWAY that says why.
type connectionError struct {
	code   http2.ErrCode
	reason string
	text   string
}

func (e *connectionError) Error() string {
	return fmt.Sprintf("http2: %s: %s (%s)", e.reason, e.text, e.code)
}

func protocol(text string) error {
	return &connectionError{http2.ErrCodeProtocol, ReasonProtocol, text}
}

func flowControl(text string) error {
	return &connectionError{http2.ErrCodeFlowControl, ReasonFlowControl, text}
}

func closedStream(text string) error {
	return &connectionError{http2.ErrCodeStreamClosed, ReasonClosedStream, text}
}

// calm ends the connection of a peer who does too much.
func calm(reason string) error {
	return &connectionError{http2.ErrCodeEnhanceYourCalm, reason, "too much of it"}
}
