package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"google.golang.org/protobuf/encoding/protowire"

	"meshtest.dev/meshtest/mesh"
)

// probe asks one address. An error that is errAnswer means that an answer came.
type probe interface {
	ask(ctx context.Context) error
	close()
}

func newProbe(c *check, address string, o *Options) probe {
	dial := func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, address, o) }
	if c.TCP {
		return tcpProbe{dial}
	}
	on := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	t := &http.Transport{
		DialContext: on, DialTLSContext: on, DisableCompression: true, MaxIdleConnsPerHost: 1, MaxResponseHeaderBytes: maxProbeHead, Protocols: new(http.Protocols),
	}
	to := url.URL{Scheme: "http", Host: address}
	if c.security != nil {
		to.Scheme = "https"
	}
	if c.GRPC != nil {
		t.Protocols.SetUnencryptedHTTP2(true)
		t.Protocols.SetHTTP2(true)
		return &grpcProbe{check: c, transport: t, to: to}
	}
	t.Protocols.SetHTTP1(true)
	return &httpProbe{check: c, transport: t, to: to}
}

// dial makes a connection, and agrees on TLS if the policy says so.
func (c *check) dial(ctx context.Context, address string, o *Options) (net.Conn, error) {
	conn, err := o.Dial(ctx, address)
	if err != nil || c.security == nil {
		return conn, err
	}
	over := tls.Client(conn, c.security.config(c.server, nil, false))
	if err := over.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // it is of no use
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	return over, nil
}

const (
	maxProbeHead = 32 << 10
	maxProbeBody = 64 << 10 // of what is read of an answer so that the connection can be used again
)

// CheckAgent is the user agent of health checks over HTTP and gRPC, by which a sidecar knows that they are no traffic.
const CheckAgent = "meshtest-sidecar/health-check"

// tcpProbe makes a connection.
type tcpProbe struct {
	dial func(context.Context) (net.Conn, error)
}

func (p tcpProbe) ask(ctx context.Context) error {
	c, err := p.dial(ctx)
	if err != nil {
		return err
	}
	_ = c.Close() // nothing was said
	return nil
}

func (p tcpProbe) close() {}

// httpProbe gets a path. Redirects are not followed: they are answers.
type httpProbe struct {
	check     *check
	transport *http.Transport
	to        url.URL
}

func (p *httpProbe) ask(ctx context.Context) error {
	to := p.to
	path, err := url.ParseRequestURI(p.check.HTTP.Path)
	if err != nil {
		return err
	}
	to.Path, to.RawPath, to.RawQuery = path.Path, path.RawPath, path.RawQuery
	req := &http.Request{Method: http.MethodGet, URL: &to, Host: p.check.authority, Header: http.Header{"User-Agent": {CheckAgent}}}
	for name, value := range p.check.HTTP.Headers {
		req.Header.Set(name, value)
	}
	resp, err := p.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !expected(p.check.HTTP.Statuses, resp.StatusCode) {
		return fmt.Errorf("%w: status %d", errAnswer, resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProbeBody))
	return err
}

func (p *httpProbe) close() { p.transport.CloseIdleConnections() }

func expected(ranges []mesh.StatusRange, status int) bool {
	for _, r := range ranges {
		if r.First <= status && status <= r.Last {
			return true
		}
	}
	return len(ranges) == 0 && status == http.StatusOK
}

// grpcProbe calls grpc.health.v1.Health/Check. One unary call does not need a whole gRPC client: it is a POST over HTTP/2 with one message each way, and a status behind the answer.
type grpcProbe struct {
	check     *check
	transport *http.Transport
	to        url.URL
}

const (
	grpcHealthPath    = "/grpc.health.v1.Health/Check"
	grpcServing       = 1 // HealthCheckResponse.ServingStatus
	grpcUnimplemented = "12"
)

func (p *grpcProbe) ask(ctx context.Context) error {
	to := p.to
	to.Path = grpcHealthPath
	req := &http.Request{
		Method: http.MethodPost, URL: &to, Host: p.check.authority, Body: io.NopCloser(bytes.NewReader(healthRequest(p.check.GRPC.Service))),
		Header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {CheckAgent}},
	}
	resp, err := p.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: status %d", errAnswer, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody))
	if err != nil {
		return err
	}
	status := resp.Trailer.Get("Grpc-Status")
	if status == "" {
		status = resp.Header.Get("Grpc-Status") // an answer of trailers only
	}
	switch serving, err := servingStatus(body); {
	case status == grpcUnimplemented:
		return fmt.Errorf("%w: the server has no grpc.health.v1", errAnswer)
	case status != "0":
		return fmt.Errorf("%w: grpc-status %q", errAnswer, status)
	case err != nil:
		return fmt.Errorf("%w: %w", errAnswer, err)
	case serving != grpcServing:
		return fmt.Errorf("%w: serving status %d", errAnswer, serving)
	}
	return nil
}

func (p *grpcProbe) close() { p.transport.CloseIdleConnections() }

// healthRequest is a HealthCheckRequest as gRPC sends it: not compressed, its length, its bytes.
func healthRequest(service string) []byte {
	var m []byte
	if service != "" {
		m = protowire.AppendString(protowire.AppendTag(m, 1, protowire.BytesType), service)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

// servingStatus reads the one field of a HealthCheckResponse.
func servingStatus(body []byte) (serving uint64, err error) {
	if len(body) < 5 || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-5) {
		return 0, errors.New("malformed message")
	}
	for m := body[5:]; len(m) > 0; {
		field, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		m = m[n:]
		if field == 1 && kind == protowire.VarintType {
			serving, _ = protowire.ConsumeVarint(m)
		}
		if n = protowire.ConsumeFieldValue(field, kind, m); n < 0 {
			return 0, protowire.ParseError(n)
		}
		m = m[n:]
	}
	return serving, nil
}
