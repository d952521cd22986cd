package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// The contenders, as the tables call them.
const (
	sidecar      = "sidecar"
	haproxy      = "haproxy"
	nginx        = "nginx"
	reverseProxy = "reverseproxy"
)

// tester is the header, and its value, that is routed to the canary.
const testerHeader, testerValue = "x-dev-user", "super-secret"

// contender is a proxy in front of the origin.
type contender struct {
	*process
	http1, http2 string // addresses; HTTP/2 is by prior knowledge
}

// programs are where the contenders' binaries are; empty for one that is missing.
type programs map[string]string

// enter starts a contender in front of the origin, with TLS to it or without.
func (b *bed) enter(ctx context.Context, name string, binary string, secure bool) (*contender, error) {
	addresses, err := free(2)
	if err != nil {
		return nil, err
	}
	behind, file := b.plain, name
	if secure {
		behind, file = b.secure, name+"-tls"
	}
	c := &contender{http1: addresses[0], http2: addresses[1]}
	values := map[string]any{
		"Dir": b.dir, "Name": file, "Host": host, "Threads": b.threads, "HTTP1": c.http1, "HTTP2": c.http2, "Stable": behind.stable, "Canary": behind.canary, "TLS": secure,
	}
	cmd := exec.Command(binary)
	var path string
	switch name {
	case sidecar:
		c.http2 = c.http1
		path, err = b.write(file+".yaml", "sidecar.yaml", values)
		cmd.Args = append(cmd.Args, "-f", path, "--listen", c.http1, "--log-level", "warn")
	case haproxy:
		path, err = b.write(file+".cfg", "haproxy.cfg", values)
		cmd.Args = append(cmd.Args, "-db", "-f", path)
	case nginx:
		path, err = b.write(file+".conf", "nginx.conf", values)
		cmd.Args = append(cmd.Args, "-p", b.dir, "-e", "stderr", "-c", path)
	case reverseProxy:
		c.http2 = c.http1
		cmd.Args = append(cmd.Args, "--listen", c.http1, "--stable", behind.stable, "--canary", behind.canary)
	}
	if err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(b.threads))
	if c.process, err = start(b.dir, file, cmd); err != nil {
		return nil, err
	}
	if err := errors.Join(c.listening(ctx, c.http1), c.listening(ctx, c.http2)); err != nil {
		c.stop()
		return nil, err
	}
	if err := c.routes(ctx); err != nil {
		c.stop()
		return nil, fmt.Errorf("%s does not do what is measured: %w", file, err)
	}
	return c, nil
}

// routes checks, for both protocols, that everybody gets the stable version and testers the canary.
func (c *contender) routes(ctx context.Context) error {
	var err error
	for _, user := range []struct{ value, version string }{{"", "v1"}, {testerValue, "v2"}} {
		var one, two http.Protocols
		one.SetHTTP1(true)
		two.SetUnencryptedHTTP2(true)
		err = errors.Join(err, ask(ctx, c.http1, one, user.value, user.version), ask(ctx, c.http2, two, user.value, user.version))
	}
	return err
}

func ask(ctx context.Context, address string, protocols http.Protocols, tester, version string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	if tester != "" {
		request.Header.Set(testerHeader, tester)
	}
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("asking through %v: %w", protocols, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("reading its answer over %s: %w", answer.Proto, err)
	}
	got := answer.Header.Get("X-Version")
	if answer.StatusCode != http.StatusOK || len(body) != bodySize || got != version {
		return fmt.Errorf("over %s it answered %d with %d bytes of version %q, not 200 with %d of %q", answer.Proto, answer.StatusCode, len(body), got, bodySize, version)
	}
	return nil
}
