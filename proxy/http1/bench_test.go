package http1_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy/http1"
)

// typicalRequest has ten headers, as one within a mesh has them.
var typicalRequest = []byte(crlf("GET /api/v1/products/42?fields=name HTTP/1.1\nHost: backend.default.svc.cluster.local:8080\nUser-Agent: Go-http-client/1.1\n" +
	"Accept: application/json\nAccept-Encoding: gzip\nX-Request-Id: load-000000012345\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n" +
	"X-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736\nX-B3-SpanId: 00f067aa0ba902b7\nX-Dev-User: tester\nX-Forwarded-For: 10.1.2.3\n\n"))

var typicalResponse = []byte(crlf("HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: 1024\nDate: Sat, 07 Nov 2026 10:00:00 GMT\nServer: fixture\nX-Version: canary\n\n"))

var chunkedBody = []byte(strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 15) + "0\r\n\r\n")

// exchange is one request and its response through the codec, as a proxy uses it.
type exchange struct {
	lim       *http1.Limits
	req, resp http1.Head
	body      http1.BodyScanner
	edits     http1.Edits
	out       []byte
}

func newExchange() *exchange { return &exchange{lim: http1.DefaultLimits()} }

func (x *exchange) run() (err error) {
	if _, err = http1.ParseRequest(typicalRequest, &x.req, x.lim); err != nil {
		return err
	}
	x.edits.Reset()
	x.edits.DeleteKnown(http1.XMeshtestOther)
	x.edits.SetBytes("x-request-id", x.req.Get(http1.XRequestID))
	x.edits.Delete("x-dev-user")
	x.out = http1.AppendRequest(x.out[:0], &x.req, &x.edits)
	if _, err = http1.ParseResponse(typicalResponse, &x.resp, http1.ExchangeOf(&x.req), x.lim); err != nil {
		return err
	}
	x.out = http1.AppendResponse(x.out[:0], &x.resp, nil)
	x.body.Reset(http1.Body{Kind: http1.BodyChunked}, http1.Response, x.lim)
	_, _, err = x.body.Scan(chunkedBody)
	return err
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	x := newExchange()
	require.NoError(t, x.run())
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = x.run() }), "an exchange")

	bad := []byte(crlf("GET /a%2 HTTP/1.1\nHost: [zz]\n\n"))
	reply := http1.Reply{Status: 400, Body: []byte("no")}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = http1.ParseRequest(bad, &x.req, x.lim)
		x.out = http1.AppendReply(x.out[:0], &reply, &x.edits)
	}), "a refusal")

	dots := []byte(crlf("GET /a/../%41/./b HTTP/1.1\nHost: [::1]:80\nConnection: x, y\nX: 1\n\n"))
	_, err := http1.ParseRequest(dots, &x.req, x.lim)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = http1.ParseRequest(dots, &x.req, x.lim) }), "a path that has to be normalised")

	trailers := []byte("5;a=b\r\nabcde\r\n0\r\nX: y\r\n\r\n")
	scan := func() {
		x.body.Reset(http1.Body{Kind: http1.BodyChunked}, http1.Response, x.lim)
		for w := trailers; len(w) > 0; {
			fwd, drop, _ := x.body.Scan(w)
			w = w[fwd+drop:]
		}
	}
	scan()
	require.Zero(t, testing.AllocsPerRun(100, scan), "trailers")
}

func BenchmarkParseRequest(b *testing.B) {
	h, lim := new(http1.Head), http1.DefaultLimits()
	b.SetBytes(int64(len(typicalRequest)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := http1.ParseRequest(typicalRequest, h, lim); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseResponse(b *testing.B) {
	h, lim := new(http1.Head), http1.DefaultLimits()
	b.SetBytes(int64(len(typicalResponse)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := http1.ParseResponse(typicalResponse, h, http1.Exchange{Method: http1.GET}, lim); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	x := newExchange()
	if err := x.run(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		x.out = http1.AppendRequest(x.out[:0], &x.req, &x.edits)
	}
}

func BenchmarkExchange(b *testing.B) {
	x := newExchange()
	b.ReportAllocs()
	for b.Loop() {
		if err := x.run(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScanChunked(b *testing.B) {
	x := newExchange()
	b.SetBytes(int64(len(chunkedBody)))
	b.ReportAllocs()
	for b.Loop() {
		x.body.Reset(http1.Body{Kind: http1.BodyChunked}, http1.Response, x.lim)
		if _, _, err := x.body.Scan(chunkedBody); err != nil {
			b.Fatal(err)
		}
	}
}
