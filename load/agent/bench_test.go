package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/loadtest"
)

// BenchmarkRun compares what a request costs when it is sent from here and when an agent sends it. Generator, server, agent and client are all in this process, so the difference is
// what the agent, its client and the connection between them take: `go test -run '^$' -bench Run -benchtime 3x ./load/agent`.
func BenchmarkRun(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer server.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- (&Server{Token: secret}).Serve(ctx, l) }()
	defer func() { cancel(); <-served }()
	client := Client{Token: secret, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}}
	for _, rate := range []float64{300, 2000} {
		for _, way := range []struct {
			name string
			run  loadtest.Runner
		}{{"direct", load.Run}, {"agent", client.Run}} {
			b.Run(way.name+"/"+time.Duration(float64(time.Second)/rate).String(), func(b *testing.B) {
				measure(b, way.run, server.URL, rate)
			})
		}
	}
}

func measure(b *testing.B, run loadtest.Runner, url string, rate float64) {
	pacer, err := load.Constant(rate)
	if err != nil {
		b.Fatal(err)
	}
	s := load.Stream{Name: "users", URL: url, Pacer: pacer, Duration: 2 * time.Second}
	var sent, records uint64
	before := used(b)
	for b.Loop() {
		got, err := run(b.Context(), s, func(load.Record) { records++ })
		if err != nil {
			b.Fatal(err)
		}
		sent += got.Sent
	}
	b.ReportMetric(float64((used(b)-before).Microseconds())/float64(sent), "cpu-us/req")
	b.ReportMetric(float64(sent-records), "lost")
	b.ReportMetric(0, "ns/op")
}

func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
