package upstream

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// transport is how connections to a destination are made.
type transport struct {
	key      string    // the same for the same
	speech   speech    // undecided: as TLS negotiates
	wanted   speech    // what is spoken when TLS negotiates nothing
	security *security // nil: plaintext
}

// plaintext is HTTP/1.1, or any other bytes.
var plaintext = &transport{speech: http1Only, wanted: http1Only}

// newTransport finds out what is spoken with a destination, and how.
func newTransport(d Destination) (*transport, error) {
	t := &transport{wanted: http1Only}
	if d.Protocol.IsHTTP2() || d.Policy.Pool.H2Upgrade && d.Protocol.IsHTTP() {
		t.wanted = http2Only
	}
	t.speech = t.wanted
	if d.Policy.TLS != nil {
		alpn := d.Policy.TLS.ALPN
		if len(alpn) == 0 && d.Protocol.IsHTTP() {
			alpn = []string{t.wanted.String()}
		}
		if d.Protocol.IsHTTP() && (t.wanted == http2Only || slices.Contains(alpn, http2Only.String())) {
			t.speech = undecided
		}
		var err error
		if t.security, err = newSecurity(d.Policy.TLS, d.Host, alpn); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
	}
	text, err := json.Marshal([]any{t.wanted, t.speech, d.Policy.TLS, d.Host})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	t.key = hex.EncodeToString(sum[:])
	return t, nil
}

// multiplexed reports whether HTTP/2 is spoken when TLS has negotiated that protocol.
func (t *transport) multiplexed(negotiated string) bool {
	switch {
	case t.speech == http1Only: // not HTTP, or nothing else was offered
		return false
	case negotiated == http2Only.String():
		return true
	case negotiated == http1Only.String():
		return false
	default:
		return t.wanted == http2Only
	}
}

// serverName is the name that the endpoint is asked for; empty without TLS.
func (t *transport) serverName(w *Want) string {
	switch s := t.security; {
	case s == nil:
		return ""
	case s.sni != "":
		return s.sni
	default:
		if host := hostOf(w.Authority); host != nil {
			return strings.ToLower(string(host))
		}
		return s.host
	}
}

// serves reports whether a connection that was made for a server name serves a want.
func (t *transport) serves(name string, w *Want) bool {
	if t.security == nil || t.security.sni != "" {
		return true
	}
	host := hostOf(w.Authority)
	if host == nil {
		return name == t.security.host
	}
	return sameHost(name, host)
}

// hostOf is the name in an authority; nil when there is none, or an address: no certificate is asked for by that.
func hostOf(authority []byte) []byte {
	host, _, _ := bytes.Cut(authority, []byte(":"))
	if bytes.HasPrefix(host, []byte("[")) {
		return nil
	}
	for _, b := range host {
		if b != '.' && (b < '0' || b > '9') {
			return host
		}
	}
	return nil
}

// sameHost compares a lower case name with one of any case.
func sameHost(name string, host []byte) bool {
	if len(name) != len(host) {
		return false
	}
	for i, b := range host {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != name[i] {
			return false
		}
	}
	return true
}

// security is how TLS is spoken with a destination's endpoints.
type security struct {
	sni   string   // empty: the authority of the request, or else host
	host  string   // of the service
	names []string // one of which the certificate must have; none: the server name
	alpn  []string // of the policy's own
	base  *tls.Config
}

func newSecurity(c *mesh.ClientTLS, host string, alpn []string) (*security, error) {
	s := &security{sni: c.SNI, host: host, names: c.Names, alpn: c.ALPN, base: &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: alpn,
		DynamicRecordSizingDisabled: true, // a record is a system call, and requests are short anyway
	}}
	if c.Mode != mesh.SimpleTLS && c.Mode != mesh.MutualTLS {
		return nil, fmt.Errorf("no such mode: %q", c.Mode)
	}
	if c.Roots != "" {
		s.base.RootCAs = x509.NewCertPool()
		if !s.base.RootCAs.AppendCertsFromPEM([]byte(c.Roots)) {
			return nil, errors.New("there is no certificate among the roots")
		}
	}
	if c.Mode == mesh.MutualTLS {
		own, err := tls.X509KeyPair([]byte(c.Chain), []byte(c.PrivateKey))
		if err != nil {
			return nil, fmt.Errorf("our certificate: %w", err)
		}
		s.base.Certificates = []tls.Certificate{own}
	}
	switch {
	case c.Insecure:
		s.base.InsecureSkipVerify = true
	case len(c.Names) > 0:
		s.base.InsecureSkipVerify = true // of crypto/tls: it would insist on the server name
		s.base.VerifyConnection = s.verify
	}
	return s, nil
}

// config is how TLS is spoken with one endpoint by one server name. A tunnel carries whatever its ends agree on.
func (s *security) config(name string, sessions tls.ClientSessionCache, tunnel bool) *tls.Config {
	c := s.base.Clone()
	c.ServerName, c.ClientSessionCache = name, sessions
	if tunnel {
		c.NextProtos = s.alpn
	}
	return c
}

// verify checks a certificate against the roots, as crypto/tls does it, and then the names. It is asked about resumed sessions too.
func (s *security) verify(state tls.ConnectionState) error {
	o := x509.VerifyOptions{Roots: s.base.RootCAs, Intermediates: x509.NewCertPool()}
	if len(state.PeerCertificates) == 0 {
		return errors.New("the endpoint shows no certificate")
	}
	for _, c := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(o); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	for _, name := range s.names {
		if hasName(leaf, name) {
			return nil
		}
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: fmt.Errorf("the certificate is for none of %s", strings.Join(s.names, ", "))}
}

// hasName reports whether a certificate is for a subject alternative name: a URI, an IP address or a DNS name, for which a wildcard of the certificate stands too.
func hasName(leaf *x509.Certificate, name string) bool {
	if strings.Contains(name, "://") {
		for _, uri := range leaf.URIs {
			if uri.String() == name {
				return true
			}
		}
		return false
	}
	return leaf.VerifyHostname(name) == nil
}

// HandshakeError says that a connection was made, and TLS was not agreed on.
type HandshakeError struct {
	Address string
	Refused bool // the certificate of one side was refused by the other
	Err     error
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("TLS handshake with %s: %v", e.Address, e.Err)
}

func (e *HandshakeError) Unwrap() error { return e.Err }

// CertificateRefused reports whether an error means that the certificate of one side was refused by the other. An endpoint may say so only after the handshake, when something is read (TLS 1.3).
func CertificateRefused(err error) bool {
	if _, ours := errors.AsType[*tls.CertificateVerificationError](err); ours {
		return true
	}
	alert, ok := errors.AsType[*net.OpError](err)
	return ok && alert.Op == "remote error" && alert.Err != nil && refusals[alert.Err.Error()]
}

// refusals are the alerts by which a certificate is refused, as crypto/tls prints them: it does not export their type.
var refusals = func() map[string]bool {
	texts := map[string]bool{}
	for _, code := range []tls.AlertError{42, 43, 44, 45, 46, 48, 49, 116} { // bad, unsupported, revoked, expired, unknown, unknown CA, access denied, required (RFC 8446, 6)
		texts[code.Error()] = true
	}
	return texts
}()
