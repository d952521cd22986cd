package mesh

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Purpose separates the draws of one request, so that adding a fault never moves a split.
type Purpose byte

// Purposes. The numbers are part of the published vectors (fixtures/vectors/chance.json).
const (
	PurposeSplit  Purpose = 1
	PurposeFault  Purpose = 2
	PurposeSample Purpose = 3
)

// Draw is one draw of chance, uniform over the 64-bit numbers.
type Draw uint64

// Chance is the only source of chance in the data plane: SipHash-2-4 of (purpose, id, edge, request key, attempt), keyed with the run's seed. The same
// seed sends the same requests to the canary and faults the same requests, in every environment and however requests interleave.
//
// The message is the purpose (1 byte), then id, edge and key, each as its length (uint16, little endian; longer strings are cut at 65535 bytes) and its bytes,
// then the attempt (uint32, little endian). The SipHash key is the seed (uint64, little endian) followed by the bytes "meshtest".
func Chance(seed uint64, purpose Purpose, id, edge, key string, attempt uint32) Draw {
	var stack [256]byte
	b := append(stack[:0], byte(purpose))
	b = appendField(b, id)
	b = appendField(b, edge)
	b = appendField(b, key)
	b = binary.LittleEndian.AppendUint32(b, attempt)
	return Draw(sipHash24(seed, binary.LittleEndian.Uint64([]byte("meshtest")), b))
}

func appendField(b []byte, s string) []byte {
	s = s[:min(len(s), math.MaxUint16)]
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// Below reports whether the draw falls into the first share (0 to 1) of all draws: it does with that probability, and a draw that falls
// below a share falls below every larger one.
func (d Draw) Below(share float64) bool {
	switch {
	case !(share > 0):
		return false
	case share >= 1:
		return true
	default:
		return uint64(d) < uint64(share*(1<<63)*2)
	}
}

// Pick chooses an index in proportion to the weights, whose sum must be positive; -1 when it is not. The arms occupy the range of draws in order, so with two
// arms a growing weight only ever adds requests to its arm.
func (d Draw) Pick(weights []uint32) int {
	var sum uint64
	for _, w := range weights {
		sum += uint64(w)
	}
	if sum == 0 {
		return -1
	}
	at, _ := bits.Mul64(uint64(d), sum) // floor(d * sum / 2^64), without bias beyond 2^-32
	for i, w := range weights {
		if at < uint64(w) {
			return i
		}
		at -= uint64(w)
	}
	return -1
}

// sipHash24 is SipHash-2-4 of Aumasson and Bernstein (2012).
func sipHash24(k0, k1 uint64, p []byte) uint64 {
	v0, v1 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d
	v2, v3 := k0^0x6c7967656e657261, k1^0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	last := uint64(len(p)) << 56
	for ; len(p) >= 8; p = p[8:] {
		m := binary.LittleEndian.Uint64(p)
		v3 ^= m
		round()
		round()
		v0 ^= m
	}
	for i, c := range p {
		last |= uint64(c) << (8 * i)
	}
	v3 ^= last
	round()
	round()
	v0 ^= last
	v2 ^= 0xff
	round()
	round()
	round()
	round()
	return v0 ^ v1 ^ v2 ^ v3
}
