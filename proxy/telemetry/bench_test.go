package telemetry

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func running(b testing.TB) *Evidence {
	e := NewEvidence(EvidenceOptions{Instance: "web-v1-1"})
	done := make(chan struct{})
	ctx := b.Context()
	go func() { e.Run(ctx); close(done) }()
	return e
}

func BenchmarkEvidence(b *testing.B) {
	sample := Sample{Key: "users-123456", Generation: gen1, Status: 200, Attempts: 1, Latency: 3 * time.Millisecond}
	b.Run("one", func(b *testing.B) {
		r := running(b).Recorder(stable)
		b.ReportAllocs()
		for b.Loop() {
			r.Record(sample)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		r := running(b).Recorder(stable)
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				r.Record(sample)
			}
		})
	})
	b.Run("64streams", func(b *testing.B) {
		r := running(b).Recorder(stable)
		keys := make([]string, 64)
		for i := range keys {
			keys[i] = fmt.Sprintf("stream%d-123456", i)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := range b.N {
			sample.Key = keys[i%64]
			r.Record(sample)
		}
	})
}

func BenchmarkMetrics(b *testing.B) {
	o := Outcome{Code: 200, Duration: 3 * time.Millisecond, RequestBytes: 100, ResponseBytes: 1024}
	b.Run("one", func(b *testing.B) {
		h := NewMetrics(MetricsOptions{}).Requests(outbound)
		b.ReportAllocs()
		for b.Loop() {
			h.Record(o)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		h := NewMetrics(MetricsOptions{}).Requests(outbound)
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				h.Record(o)
			}
		})
	})
}

func BenchmarkAppendText(b *testing.B) {
	m := NewMetrics(MetricsOptions{})
	for i := range 20 {
		t := outbound
		t.Host = fmt.Sprintf("host-%d", i)
		m.Requests(t).Record(Outcome{Code: 200})
		m.Requests(t).Record(Outcome{Code: 503})
	}
	var text []byte
	b.ReportAllocs()
	for b.Loop() {
		text = m.AppendText(text[:0])
	}
}

func BenchmarkAccessLog(b *testing.B) {
	a := &Access{Start: time.Unix(1, 0), Method: "GET", Path: "/api/v1/reviews?a=b", Authority: "reviews:8080", Protocol: "HTTP/1.1", Status: 200, Key: "users-123456", Route: "primary"}
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line = a.append(line[:0])
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	h := NewMetrics(MetricsOptions{}).Requests(outbound)
	o := Outcome{Code: 200, Duration: time.Millisecond}
	h.Record(o)
	require.Zero(t, testing.AllocsPerRun(1000, func() { h.Record(o) }))

	r := NewEvidence(EvidenceOptions{}).Recorder(stable)
	s := Sample{Key: "users-1", Generation: gen1, Status: 200, Latency: time.Millisecond}
	for range 200 { // until each part of the recorder knows the stream
		r.Record(s)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { r.Record(s) }))
}
