package zipkin

import (
	"testing"
	"time"
)

// BenchmarkRecord copies spans into memory that is there, as a sidecar does in the long run.
func BenchmarkRecord(b *testing.B) {
	x, err := New(Options{URL: "http://127.0.0.1:1", Queue: DefaultQueue + 1})
	if err != nil {
		b.Fatal(err)
	}
	s := Span{
		Trace: TraceID{1, 2}, ID: 3, Parent: 4, Kind: Client, Name: "api.default.svc.cluster.local:80/*", Start: time.Unix(1000, 0), Duration: time.Millisecond,
		Remote: Endpoint{Service: "api.default"}, Method: "GET", Path: "/orders", Status: 200, Flags: "-", Cluster: "outbound|80||api.default.svc.cluster.local", RequestID: "users-123456",
	}
	record := func() {
		x.Record(&s)
		if len(x.waiting.spans) == DefaultQueue {
			x.waiting.reset()
		}
	}
	for range 2 * DefaultQueue {
		record()
	}
	b.ReportAllocs()
	for b.Loop() {
		record()
	}
}
