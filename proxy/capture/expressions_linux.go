package capture

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// expressions are a match or a verdict as the kernel wants it.
type expressions = []expr.Any

// register is where a value is loaded and compared.
const register = unix.NFT_REG_1

func compare(not bool, value []byte) expr.Any {
	op := expr.CmpOpEq
	if not {
		op = expr.CmpOpNeq
	}
	return &expr.Cmp{Op: op, Register: register, Data: value}
}

func meta(key expr.MetaKey, not bool, value []byte) expressions {
	return expressions{&expr.Meta{Key: key, Register: register}, compare(not, value)}
}

func load(base expr.PayloadBase, offset, size uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: size}
}

func mask(bits []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(len(bits)), Mask: bits, Xor: make([]byte, len(bits))}
}

// family makes sure that offsets into the IP header mean what they should.
func family(four bool) expressions {
	if four {
		return meta(expr.MetaKeyNFPROTO, false, []byte{unix.NFPROTO_IPV4})
	}
	return meta(expr.MetaKeyNFPROTO, false, []byte{unix.NFPROTO_IPV6})
}

func (m interfaceMatch) expressions() expressions {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, m.name)
	if m.out {
		return meta(expr.MetaKeyOIFNAME, m.not, name)
	}
	return meta(expr.MetaKeyIIFNAME, m.not, name)
}

func (m tcpMatch) expressions() expressions {
	return meta(expr.MetaKeyL4PROTO, m.not, []byte{unix.IPPROTO_TCP})
}

func (m socketMatch) expressions() expressions {
	value := []byte{0}
	if m.wildcard {
		value[0] = 1
	}
	return expressions{&expr.Socket{Key: expr.SocketKeyWildcard, Register: register}, compare(false, value)}
}

func (m ownerMatch) expressions() expressions {
	if m.group {
		return meta(expr.MetaKeySKGID, false, binaryutil.NativeEndian.PutUint32(m.id))
	}
	return meta(expr.MetaKeySKUID, false, binaryutil.NativeEndian.PutUint32(m.id))
}

func (m portMatch) expressions() expressions {
	return append(tcpMatch{}.expressions(), load(expr.PayloadBaseTransportHeader, 2, 2), compare(false, binaryutil.BigEndian.PutUint16(uint16(m))))
}

func (m addressMatch) expressions() expressions {
	p := netip.Prefix(m)
	offset, size := uint32(16), uint32(4) // of the destination in an IPv4 header
	if p.Addr().Is6() {
		offset, size = 24, 16
	}
	all := append(family(p.Addr().Is4()), load(expr.PayloadBaseNetworkHeader, offset, size))
	if !p.IsSingleIP() {
		all = append(all, mask(leading(p.Bits(), int(size))))
	}
	return append(all, compare(false, p.Addr().AsSlice()))
}

// leading is a mask of the first bits of so many bytes.
func leading(bits, size int) []byte {
	all := make([]byte, size)
	for i := range bits {
		all[i/8] |= 0x80 >> (i % 8)
	}
	return all
}

func (m classMatch) expressions() expressions {
	if m.four { // the upper six bits of the second byte
		return append(family(true), load(expr.PayloadBaseNetworkHeader, 1, 1), mask([]byte{0xfc}), compare(false, []byte{class << 2}))
	}
	const v6 = class << 6 // the six bits behind the version
	return append(family(false), load(expr.PayloadBaseNetworkHeader, 0, 2), mask([]byte{0x0f, 0xc0}), compare(false, []byte{v6 >> 8, v6 & 0xff}))
}

func (v verdict) expressions() expressions {
	switch v.kind {
	case jumpVerdict:
		return expressions{&expr.Verdict{Kind: expr.VerdictJump, Chain: v.to}}
	case throughVerdict:
		return expressions{&expr.Verdict{Kind: expr.VerdictGoto, Chain: v.to}}
	case redirectVerdict:
		return append(tcpMatch{}.expressions(),
			&expr.Immediate{Register: register, Data: binaryutil.BigEndian.PutUint16(uint16(v.port))}, &expr.Redir{RegisterProtoMin: register})
	default:
		return expressions{&expr.Verdict{Kind: expr.VerdictReturn}}
	}
}

// expressions are those of all matches and of the verdict.
func (r rule) expressions() (all expressions) {
	for _, m := range r.matches {
		all = append(all, m.expressions()...)
	}
	return append(all, r.verdict.expressions()...)
}
