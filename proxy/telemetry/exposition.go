package telemetry

import (
	"slices"
	"strconv"
	"strings"
)

// ContentType is that of the text exposition format which AppendText writes.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// AppendText appends all series in Prometheus' text exposition format 0.0.4, in a stable order, and forgets what has been idle.
func (m *Metrics) AppendText(b []byte) []byte {
	kinds := m.living()
	b = m.appendRequests(b, kinds)
	b = appendMessages(b, kinds)
	return m.appendConnections(b, kinds)
}

// living lists the kinds that are told, in the order of their labels.
func (m *Metrics) living() []*kind {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	var kinds []*kind
	for _, k := range m.kinds {
		kinds = append(kinds, k)
	}
	if m.rest != nil {
		kinds = append(kinds, m.rest)
	}
	slices.SortFunc(kinds, func(a, b *kind) int { return strings.Compare(a.labels, b.labels) })
	return kinds
}

func (m *Metrics) appendRequests(b []byte, kinds []*kind) []byte {
	var all []*outcome
	for _, k := range kinds {
		outcomes := slices.Clone(*k.outcomes.Load())
		slices.SortFunc(outcomes, func(a, b *outcome) int { return strings.Compare(a.labels, b.labels) })
		all = append(all, outcomes...)
	}
	if len(all) == 0 {
		return b
	}
	b = appendHead(b, "istio_requests_total", "counter", "Requests that were handled.")
	for _, o := range all {
		b = appendSeries(b, "istio_requests_total", o.labels, float64(o.duration.count()))
	}
	b = appendHead(b, "istio_request_duration_milliseconds", "histogram", "Time from the first byte of the request to the last of the response.")
	for _, o := range all {
		b = o.duration.append(b, durationScale, "istio_request_duration_milliseconds", o.labels)
	}
	b = appendHead(b, "istio_request_bytes", "histogram", "Size of request bodies.")
	for _, o := range all {
		b = o.request.append(b, byteScale, "istio_request_bytes", o.labels)
	}
	b = appendHead(b, "istio_response_bytes", "histogram", "Size of response bodies.")
	for _, o := range all {
		b = o.response.append(b, byteScale, "istio_response_bytes", o.labels)
	}
	return b
}

func (m *Metrics) appendConnections(b []byte, kinds []*kind) []byte {
	var tcp []*kind
	for _, k := range kinds {
		if k.opened.Load() > 0 {
			tcp = append(tcp, k)
		}
	}
	if len(tcp) == 0 {
		return b
	}
	counters := []struct {
		name, help string
		value      func(*kind) uint64
	}{
		{"istio_tcp_sent_bytes_total", "Bytes of responses on TCP connections.", func(k *kind) uint64 { return k.sent.Load() }},
		{"istio_tcp_received_bytes_total", "Bytes of requests on TCP connections.", func(k *kind) uint64 { return k.received.Load() }},
		{"istio_tcp_connections_opened_total", "TCP connections opened.", func(k *kind) uint64 { return k.opened.Load() }},
	}
	for _, c := range counters {
		b = appendHead(b, c.name, "counter", c.help)
		for _, k := range tcp {
			b = appendSeries(b, c.name, k.flagged(0), float64(c.value(k)))
		}
	}
	b = appendHead(b, "istio_tcp_connections_closed_total", "counter", "TCP connections closed.")
	for _, k := range tcp {
		ends := slices.Clone(*k.closed.Load())
		slices.SortFunc(ends, func(a, b *closed) int { return strings.Compare(a.labels, b.labels) })
		for _, c := range ends {
			b = appendSeries(b, "istio_tcp_connections_closed_total", c.labels, float64(c.count.Load()))
		}
	}
	return b
}

// appendHead writes what stands before the series of a metric.
func appendHead(b []byte, name, kind, help string) []byte {
	b = append(b, "# HELP "...)
	b = append(b, name...)
	b = append(b, ' ')
	b = append(b, help...)
	b = append(b, "\n# TYPE "...)
	b = append(b, name...)
	b = append(b, ' ')
	b = append(b, kind...)
	return append(b, '\n')
}

// appendSeries writes one line; labels may be empty.
func appendSeries(b []byte, name, labels string, value float64) []byte {
	b = append(b, name...)
	if labels != "" {
		b = append(b, '{')
		b = append(b, labels...)
		b = append(b, '}')
	}
	b = append(b, ' ')
	b = strconv.AppendFloat(b, value, 'g', -1, 64)
	return append(b, '\n')
}
