package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/socket"
)

// serverTLS compiles how a listener speaks TLS.
func serverTLS(t *mesh.ServerTLS, protocol mesh.Protocol) (*tls.Config, error) {
	certificates, err := keyPairs(t.Certificates)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: max(t.MinVersion, tls.VersionTLS12), GetCertificate: certificates.choose}
	if protocol.IsHTTP() {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	if t.Mode == mesh.MutualTLS {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM([]byte(t.Roots)) {
			return nil, errors.New("there is no certificate authority to know callers by")
		}
	}
	return config, nil
}

// shown are certificates with the hosts that they are shown for.
type shown []struct {
	hosts []string
	pair  tls.Certificate
}

func keyPairs(list []mesh.Certificate) (shown, error) {
	if len(list) == 0 {
		return nil, errors.New("there is no certificate to show")
	}
	all := make(shown, len(list))
	for i, c := range list {
		pair, err := tls.X509KeyPair([]byte(c.Chain), []byte(c.PrivateKey))
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i, err)
		}
		all[i].pair, all[i].hosts = pair, c.Hosts
	}
	return all, nil
}

// choose is the certificate for the host that the caller names: one for exactly that host, one for a wildcard that covers it, one that says so itself, or else the first.
func (all shown) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	for _, covers := range []func(pattern string) bool{
		func(pattern string) bool { return pattern == name },
		func(pattern string) bool {
			suffix, wild := strings.CutPrefix(pattern, "*")
			return wild && len(name) > len(suffix) && strings.HasSuffix(name, suffix)
		},
	} {
		for i := range all {
			if slices.ContainsFunc(all[i].hosts, covers) {
				return &all[i].pair, nil
			}
		}
	}
	for i := range all {
		if len(all[i].hosts) == 0 && hello.SupportsCertificate(&all[i].pair) == nil {
			return &all[i].pair, nil
		}
	}
	return &all[0].pair, nil
}

// handshake greets a caller who has to speak TLS, and reports whether the connection can go on.
func (c *conn) handshake() bool {
	if c.role.tls == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.srv.opts.Timeouts.Header)
	defer cancel()
	c.sock = socket.Server(c.accepted, c.role.tls)
	c.alarm.enter(readingHead, 0, nil, canceler(cancel), nil)
	err := c.sock.Handshake(ctx)
	c.alarm.leave()
	if err != nil {
		c.srv.opts.Log.Debug("TLS handshake", "listener", c.at.bind, "caller", c.accepted.RemoteAddr().String(), "error", err)
		c.srv.count.refused.with(reasonHandshake).Inc() // whoever sees it counted finds out why
		return false
	}
	c.secure = true
	c.protocol = c.sock.TLS().NegotiatedProtocol
	return true
}

// speaksHTTP2 reports whether the handshake agreed on HTTP/2.
func (c *conn) speaksHTTP2() bool { return c.protocol == "h2" }

// scheme is that of the connection.
func (c *conn) scheme() string {
	if c.secure {
		return "https"
	}
	return "http"
}
