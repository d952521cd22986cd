package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Frames are written by appending them to what waits to be sent; x/net's Framer would copy them twice.

// appendFrame appends the header of a frame with a payload of n bytes, n < 2^24.
func appendFrame(b []byte, n int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(b, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendData(b []byte, id uint32, payload []byte, last bool) []byte {
	var flags http2.Flags
	if last {
		flags = http2.FlagDataEndStream
	}
	return append(appendFrame(b, len(payload), http2.FrameData, flags, id), payload...)
}

// appendHeaders appends a header block, in as many frames as the peer's limit on them asks for.
func appendHeaders(b []byte, id uint32, block []byte, last bool, maxFrame int) []byte {
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if last {
		flags = http2.FlagHeadersEndStream
	}
	for {
		n := min(len(block), maxFrame)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders // and FlagContinuationEndHeaders, which is the same bit
		}
		b = append(appendFrame(b, n, kind, flags, id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return b
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

func appendReset(b []byte, id uint32, code http2.ErrCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(b, 4, http2.FrameRSTStream, 0, id), uint32(code))
}

func appendWindowUpdate(b []byte, id uint32, n int) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(b, 4, http2.FrameWindowUpdate, 0, id), uint32(n))
}

func appendSettings(b []byte, all ...http2.Setting) []byte {
	b = appendFrame(b, 6*len(all), http2.FrameSettings, 0, 0)
	for _, s := range all {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

func appendSettingsAck(b []byte) []byte {
	return appendFrame(b, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
}

func appendPing(b []byte, data [8]byte, flags http2.Flags) []byte {
	return append(appendFrame(b, 8, http2.FramePing, flags, 0), data[:]...)
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode, why string) []byte {
	b = appendFrame(b, 8+len(why), http2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, why...)
}

// AppendTurnAway appends all that a server says who does not take a connection: why, and that nothing of what comes by it was processed, so that it can be sent again.
func AppendTurnAway(b []byte, why string) []byte {
	return appendGoAway(appendSettings(b), 0, http2.ErrCodeNo, why)
}
