package http2

import (
	"encoding/binary"
	"strings"

	"golang.org/x/net/http2"
)

// attack is something that costs a peer little, and what has to come of it: GOAWAY with the code, a counter for the reason, an end.
type attack struct {
	name   string
	step   func(p *peer, n int) // sends the n-th part, from 0; the greeting has been sent
	steps  int                  // after which it must be over
	code   http2.ErrCode
	reason string
	serve  func(*Stream) // instead of swallow
}

// stream is the number of the n-th stream.
func stream(n int) uint32 { return uint32(2*n + 1) }

// onOne sends something again and again on one stream that stays open.
func onOne(send func(p *peer, n int)) func(*peer, int) {
	return func(p *peer, n int) {
		if n == 0 {
			p.ask(1, "POST", false)
		}
		send(p, n)
	}
}

// each opens a stream after the other, and does something to it.
func each(send func(p *peer, id uint32)) func(*peer, int) {
	return func(p *peer, n int) {
		p.ask(stream(n), "POST", false)
		send(p, stream(n))
	}
}

// block of a request that is never finished.
func endless(p *peer, n int, fragment []byte) {
	if n == 0 {
		_ = p.to.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "GET")})
	}
	_ = p.to.WriteContinuation(1, false, fragment)
}

// literal is a field without indexing, as HPACK has it, so large that it fills most of a frame.
var literal = func() []byte {
	b := []byte{0x00, 1, 'x', 0x7f}
	value := strings.Repeat("v", 16_000)
	rest := uint(len(value) - 127)
	for ; rest >= 128; rest >>= 7 {
		b = append(b, byte(rest)|0x80)
	}
	return append(append(b, byte(rest)), value...)
}()

// bomb is a block whose fields are 4 KiB each and cost a byte each.
func bomb(p *peer) []byte {
	b := p.block(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x", "bomb", strings.Repeat("b", 3500))
	for range 500 {
		b = append(b, 0x80|62) // the newest field of the dynamic table
	}
	return b
}

// attacks need no time: what is given back with that must not be more than a slow machine attacks with. What needs some is in slow_test.go.
var attacks = []attack{
	{"rapid reset", each(func(p *peer, id uint32) { _ = p.to.WriteRSTStream(id, http2.ErrCodeCancel) }), 2000, http2.ErrCodeEnhanceYourCalm, ReasonRapidReset, nil},
	{"streams beyond the limit", each(func(*peer, uint32) {}), 2000, http2.ErrCodeEnhanceYourCalm, ReasonRapidReset, nil},

	// MadeYouReset (CVE-2025-8671): mistakes for which RFC 9113 has us reset a stream that we serve.
	{"made you reset: increment 0", each(func(p *peer, id uint32) { _ = p.to.WriteWindowUpdate(id, 0) }), 2, http2.ErrCodeProtocol, ReasonProtocol, nil},
	{"made you reset: window beyond the largest", each(func(p *peer, id uint32) { _ = p.to.WriteWindowUpdate(id, 1<<31-1) }), 2, http2.ErrCodeFlowControl, ReasonFlowControl, nil},
	{"made you reset: priority of a wrong size", each(func(p *peer, id uint32) { _ = p.to.WriteRawFrame(http2.FramePriority, 0, id, []byte{0}) }), 2, http2.ErrCodeFrameSize, ReasonFrameSize, nil},
	{"made you reset: dependency on itself", each(func(p *peer, id uint32) { _ = p.to.WritePriority(id, http2.PriorityParam{StreamDep: id}) }), 2, http2.ErrCodeProtocol, ReasonProtocol, nil},
	{"made you reset: DATA behind the end", func(p *peer, n int) {
		p.ask(stream(n), "GET", true)
		_ = p.to.WriteData(stream(n), true, []byte("x"))
	}, 2, http2.ErrCodeStreamClosed, ReasonClosedStream, asleep},
	{"made you reset: HEADERS behind the end", func(p *peer, n int) {
		p.ask(stream(n), "GET", true)
		p.headers(stream(n), true, "x", "y")
	}, 2, http2.ErrCodeStreamClosed, ReasonClosedStream, asleep},
	{"made you reset: longer than its length", func(p *peer, n int) {
		p.ask(stream(n), "POST", false, "content-length", "1")
		_ = p.to.WriteData(stream(n), true, []byte("xy"))
	}, 2000, http2.ErrCodeEnhanceYourCalm, ReasonRapidReset, nil},
	{"made you reset: malformed trailers", each(func(p *peer, id uint32) { p.headers(id, true, ":path", "/") }), 2000, http2.ErrCodeEnhanceYourCalm, ReasonRapidReset, nil},
	{"made you reset: trailers that do not end", each(func(p *peer, id uint32) { p.headers(id, false, "x", "y") }), 2000, http2.ErrCodeEnhanceYourCalm, ReasonRapidReset, nil},
	{"malformed requests", func(p *peer, n int) { p.headers(stream(n), true, "X-Upper", "y") }, 2000, http2.ErrCodeEnhanceYourCalm, ReasonRapidReset, nil},

	{"empty CONTINUATION", func(p *peer, n int) { endless(p, n, nil) }, 100, http2.ErrCodeEnhanceYourCalm, ReasonContinuation, nil},
	{"CONTINUATION of a byte", func(p *peer, n int) { endless(p, n, []byte{0x82}) }, 100, http2.ErrCodeEnhanceYourCalm, ReasonContinuation, nil},
	{"full CONTINUATION", func(p *peer, n int) { endless(p, n, literal) }, 10, http2.ErrCodeEnhanceYourCalm, ReasonHeaderFlood, nil},
	{"decompression bombs", func(p *peer, n int) {
		_ = p.to.WriteHeaders(http2.HeadersFrameParam{StreamID: stream(n), BlockFragment: bomb(p), EndHeaders: true, EndStream: true})
		if n%16 == 15 { // much more on its way would end the connection before its GOAWAY is read
			p.await(func(f frame) bool { return f.StreamID == stream(n) || f.Type == http2.FrameGoAway })
		}
	}, 2000, http2.ErrCodeEnhanceYourCalm, ReasonRapidReset, nil},
	{"empty HEADERS", func(p *peer, n int) { p.headers(stream(n), false) }, 2000, http2.ErrCodeEnhanceYourCalm, ReasonRapidReset, nil},

	{"SETTINGS", func(p *peer, n int) {
		_ = p.to.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n)})
	}, 200, http2.ErrCodeEnhanceYourCalm, ReasonSettingsFlood, nil},
	{"acknowledgements of SETTINGS", func(p *peer, n int) { _ = p.to.WriteSettingsAck() }, 200, http2.ErrCodeEnhanceYourCalm, ReasonSettingsFlood, nil},
	{"PING", func(p *peer, n int) { _ = p.to.WritePing(false, [8]byte{byte(n)}) }, 1000, http2.ErrCodeEnhanceYourCalm, ReasonPingFlood, nil},
	{"answers to no PING", func(p *peer, n int) { _ = p.to.WritePing(true, [8]byte{byte(n)}) }, 1000, http2.ErrCodeEnhanceYourCalm, ReasonPingFlood, nil},
	{"PRIORITY", func(p *peer, n int) { _ = p.to.WritePriority(stream(n), http2.PriorityParam{Weight: byte(n)}) }, 2000, http2.ErrCodeEnhanceYourCalm, ReasonPriorityFlood, nil},
	{"WINDOW_UPDATE of the connection", func(p *peer, n int) { _ = p.to.WriteWindowUpdate(0, 1) }, 3000, http2.ErrCodeEnhanceYourCalm, ReasonWindowUpdateFlood, nil},
	{"WINDOW_UPDATE of a stream", onOne(func(p *peer, n int) { _ = p.to.WriteWindowUpdate(1, 1) }), 3000, http2.ErrCodeEnhanceYourCalm, ReasonWindowUpdateFlood, nil},
	{"the connection's window beyond the largest", func(p *peer, n int) { _ = p.to.WriteWindowUpdate(0, 1<<31-1) }, 2, http2.ErrCodeFlowControl, ReasonFlowControl, nil},

	{"empty DATA", onOne(func(p *peer, n int) { _ = p.to.WriteData(1, false, nil) }), 200, http2.ErrCodeEnhanceYourCalm, ReasonEmptyFrames, nil},
	{"padding without DATA", onOne(func(p *peer, n int) { _ = p.to.WriteDataPadded(1, false, nil, make([]byte, 200)) }), 200, http2.ErrCodeEnhanceYourCalm, ReasonEmptyFrames, nil},
	{"DATA beyond the window", onOne(func(p *peer, n int) { _ = p.to.WriteData(1, false, make([]byte, 16<<10)) }), 10, http2.ErrCodeFlowControl, ReasonFlowControl, asleep},
	{"unknown frames", func(p *peer, n int) { _ = p.to.WriteRawFrame(0xbe, 0, 0, nil) }, 1000, http2.ErrCodeEnhanceYourCalm, ReasonStrayFrames, nil},
	{"GOAWAY", onOne(func(p *peer, n int) { _ = p.to.WriteGoAway(0, http2.ErrCodeNo, nil) }), 1000, http2.ErrCodeEnhanceYourCalm, ReasonStrayFrames, nil},
	{"RST_STREAM of what is over", func(p *peer, n int) {
		if n == 0 {
			p.ask(1, "POST", false)
		}
		_ = p.to.WriteRSTStream(1, http2.ErrCodeCancel)
	}, 1000, http2.ErrCodeEnhanceYourCalm, ReasonStrayFrames, nil},

	{"RST_STREAM of an idle stream", func(p *peer, n int) { _ = p.to.WriteRSTStream(1, http2.ErrCodeCancel) }, 2, http2.ErrCodeProtocol, ReasonProtocol, nil},
	{"a frame beyond the largest", func(p *peer, n int) { _ = p.to.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 16<<10+1)) }, 2, http2.ErrCodeFrameSize, ReasonFrameSize, nil},
	{"a header block that does not decode", func(p *peer, n int) {
		_ = p.to.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0x7f}, EndHeaders: true})
	}, 2, http2.ErrCodeCompression, ReasonCompression, nil},
	{"DATA on what the peer has reset", func(p *peer, n int) {
		p.ask(1, "POST", false)
		_ = p.to.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = p.to.WriteData(1, false, []byte("x"))
	}, 2, http2.ErrCodeStreamClosed, ReasonClosedStream, asleep},
	{"settings beyond their range", func(p *peer, n int) {
		b := binary.BigEndian.AppendUint32([]byte{0, byte(http2.SettingInitialWindowSize)}, 1<<31)
		_ = p.to.WriteRawFrame(http2.FrameSettings, 0, 0, b)
	}, 2, http2.ErrCodeFlowControl, ReasonFlowControl, nil},
}
