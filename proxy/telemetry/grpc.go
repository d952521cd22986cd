package telemetry

import (
	"cmp"
	"strings"
)

// GRPCMessages counts the messages in one direction of a gRPC stream. In a body each message is a byte of flags, its length in four bytes (big endian), and that many bytes
// (PROTOCOL-HTTP2.md, Length-Prefixed-Message); like Envoy it is counted when its first byte comes. The zero value is ready. It does not judge: what is no gRPC gives some number.
type GRPCMessages struct {
	count  uint64
	left   uint32 // bytes of the present message that are still to come
	length uint32 // as far as it was read
	prefix uint8  // bytes of the present prefix that were read
}

// grpcPrefix is the size of what stands before each message.
const grpcPrefix = 5

// Scan takes the next window of the body. It neither keeps it nor allocates.
func (g *GRPCMessages) Scan(window []byte) {
	for len(window) > 0 {
		if g.left > 0 {
			n := min(uint64(g.left), uint64(len(window)))
			g.left -= uint32(n)
			window = window[n:]
			continue
		}
		if g.prefix == 0 {
			g.count++
			g.length = 0
		} else {
			g.length = g.length<<8 | uint32(window[0])
		}
		window = window[1:]
		if g.prefix++; g.prefix == grpcPrefix {
			g.prefix, g.left = 0, g.length
		}
	}
}

// Count is the number of messages so far.
func (g *GRPCMessages) Count() uint64 { return g.count }

// Messages counts messages of gRPC streams that went to the destination and came from it. It may be called while a stream is open, as often as is useful, with what came since.
func (r Requests) Messages(request, response uint64) {
	r.kind.requestMessages.Add(request)
	r.kind.responseMessages.Add(response)
	r.kind.touch()
}

// appendMessages tells the messages. Their series have Istio's labels of the two ends and of the service, and no others (istio/proxy, istio_stats.cc: they are told before the rest is
// known), so that kinds which differ in the rest add up.
func appendMessages(b []byte, kinds []*kind) []byte {
	type tally struct {
		labels            string
		request, response uint64
	}
	var all []tally
	for _, k := range kinds {
		t := tally{k.traffic.renderEnds(), k.requestMessages.Load(), k.responseMessages.Load()}
		switch last := len(all) - 1; {
		case t.request+t.response == 0:
		case last >= 0 && all[last].labels == t.labels: // kinds are in the order of their labels
			all[last].request += t.request
			all[last].response += t.response
		default:
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return b
	}
	b = appendHead(b, "istio_request_messages_total", "counter", "Messages of gRPC that clients sent.")
	for _, t := range all {
		b = appendSeries(b, "istio_request_messages_total", t.labels, float64(t.request))
	}
	b = appendHead(b, "istio_response_messages_total", "counter", "Messages of gRPC that servers sent.")
	for _, t := range all {
		b = appendSeries(b, "istio_response_messages_total", t.labels, float64(t.response))
	}
	return b
}

// renderEnds writes the labels of the two ends and of the service.
func (t *Traffic) renderEnds() string {
	all := t.labels()
	return renderLabels(all[:len(all)-2]) // without protocol and security
}

// renderLabels writes name="value" separated by commas. What is not known is unknown, but for a revision: that is the latest, as in Istio.
func renderLabels(labels []label) string {
	var b []byte
	for i, l := range labels {
		if i > 0 {
			b = append(b, ',')
		}
		fallback := Unknown
		if strings.HasSuffix(l.name, "_canonical_revision") {
			fallback = latest
		}
		b = appendLabel(b, l.name, cmp.Or(l.value, fallback))
	}
	return string(b)
}
