package istio

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// withoutTLS reports what a server says about TLS that it does not speak.
func (g *gateway) withoutTLS(path string, s *networking.Server) {
	t, at := s.GetTls(), join(path, "tls")
	switch http := protocols[strings.ToUpper(s.GetPort().GetProtocol())].IsHTTP(); {
	case t == nil || g.Has(at):
	case t.GetHttpsRedirect() && !http:
		g.Problem(CodeInvalid, join(at, "httpsRedirect"), "", "only requests of HTTP can be redirected")
	case t.GetMode() != networking.ServerTLSSettings_PASSTHROUGH || t.GetServerCertificate()+t.GetPrivateKey()+t.GetCaCertificates()+t.GetCredentialName() != "":
		g.Problem(CodeInvalid, at, "protocol: HTTPS or TLS", "the protocol %s is without TLS", s.GetPort().GetProtocol())
	}
}

var minVersions = map[networking.ServerTLSSettings_TLSProtocol]uint16{
	networking.ServerTLSSettings_TLSV1_0: tls.VersionTLS10, networking.ServerTLSSettings_TLSV1_1: tls.VersionTLS11,
	networking.ServerTLSSettings_TLSV1_2: tls.VersionTLS12, networking.ServerTLSSettings_TLSV1_3: tls.VersionTLS13,
}

// overTLS says how a server of HTTPS or TLS speaks it. What is terminated is HTTP for HTTPS, and bytes for TLS.
func (c *compiler) overTLS(g *gateway, path string, s *networking.Server, hosts []served, out *mesh.Port) {
	t, at := s.GetTls(), join(path, "tls")
	out.Protocol = mesh.TCP
	if strings.EqualFold(s.GetPort().GetProtocol(), "HTTPS") {
		out.Protocol = mesh.HTTP
	}
	out.TLS = &mesh.ServerTLS{MinVersion: minVersions[t.GetMinProtocolVersion()]}
	switch {
	case t == nil && !g.Has(at):
		g.Problem(CodeInvalid, path, "such as tls: {mode: SIMPLE, credentialName: books}", "the field %q is missing", "tls")
		return
	case g.Has(at):
		return
	case t.GetHttpsRedirect():
		g.Problem(CodeInvalid, join(at, "httpsRedirect"), "a server of HTTP", "requests are over TLS already")
	}
	switch t.GetMode() {
	case networking.ServerTLSSettings_PASSTHROUGH:
		out.Protocol, out.TLS.Mode = mesh.TLS, mesh.Passthrough
		if t.GetServerCertificate()+t.GetPrivateKey()+t.GetCaCertificates()+t.GetCredentialName() != "" {
			g.Problem(CodeInvalid, at, "mode: SIMPLE", "with the mode PASSTHROUGH no certificate is shown")
		}
	case networking.ServerTLSSettings_SIMPLE:
		out.TLS.Mode = mesh.SimpleTLS
	case networking.ServerTLSSettings_MUTUAL:
		out.TLS.Mode = mesh.MutualTLS
	default:
		g.Problem(CodeNotHonoured, join(at, "mode"), "SIMPLE, MUTUAL or PASSTHROUGH", "the mode %s is not honoured yet", t.GetMode())
		return
	}
	if out.TLS.Mode == mesh.Passthrough {
		return
	}
	shown, roots, ok := c.credentials(g, at, t)
	if !ok {
		return
	}
	shown.Hosts = certificateHosts(hosts)
	out.TLS.Certificates = []mesh.Certificate{shown}
	if out.TLS.Mode == mesh.MutualTLS {
		out.TLS.Roots = roots
	}
}

// credentials reads what a server shows, and with the mode MUTUAL the roots of its callers.
func (c *compiler) credentials(g *gateway, path string, t *networking.ServerTLSSettings) (shown mesh.Certificate, roots string, ok bool) {
	before := len(g.Problems)
	at := join(path, "credentialName")
	if t.GetCredentialName() != "" {
		if t.GetServerCertificate()+t.GetPrivateKey()+t.GetCaCertificates() != "" {
			g.Problem(CodeInvalid, at, "remove one of them", "credentialName and files cannot both be set")
		}
		shown, roots = c.credential(g, at, t)
	} else {
		at = join(path, "serverCertificate")
		shown.Chain = c.file(g, at, t.GetServerCertificate())
		shown.PrivateKey = c.file(g, join(path, "privateKey"), t.GetPrivateKey())
		if t.GetMode() == networking.ServerTLSSettings_MUTUAL {
			roots = c.file(g, join(path, "caCertificates"), t.GetCaCertificates())
		}
	}
	if len(g.Problems) > before {
		return shown, roots, false
	}
	if _, err := tls.X509KeyPair([]byte(shown.Chain), []byte(shown.PrivateKey)); err != nil {
		g.Problem(CodeInvalid, at, "both in PEM", "the certificate and its key cannot be used: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
	if t.GetMode() == networking.ServerTLSSettings_MUTUAL && !x509.NewCertPool().AppendCertsFromPEM([]byte(roots)) {
		g.Problem(CodeInvalid, at, "in PEM", "there is no certificate among the roots of the callers")
	}
	return shown, roots, len(g.Problems) == before
}

// credential reads a Secret. The roots may stand in one of their own, NAME-cacert, as with Istio.
func (c *compiler) credential(g *gateway, path string, t *networking.ServerTLSSettings) (shown mesh.Certificate, roots string) {
	name := t.GetCredentialName()
	s := c.secrets[g.namespace+"/"+name]
	if s == nil {
		g.Problem(CodeReference, path, "a document of the kind Secret", "no such Secret: %s/%s", g.namespace, name)
		g.CouldBe(name, c.secretsOf(g.namespace))
		return shown, ""
	}
	roots = s.roots()
	if own := c.secrets[g.namespace+"/"+name+"-cacert"]; own != nil {
		roots = own.roots()
	}
	if s.chain() == "" || s.key() == "" {
		g.Problem(CodeInvalid, path, "", "the Secret %s has no %s and %s", name, keyChain, keyKey)
	}
	if t.GetMode() == networking.ServerTLSSettings_MUTUAL && roots == "" {
		g.Problem(CodeInvalid, path, "", "neither the Secret %s nor %s-cacert has %s", name, name, keyRoots)
	}
	return mesh.Certificate{Chain: s.chain(), PrivateKey: s.key()}, roots
}

func (c *compiler) secretsOf(namespace string) []string {
	var names []string
	for key := range c.secrets {
		if name, ok := strings.CutPrefix(key, namespace+"/"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// file reads a file that a document names.
func (c *compiler) file(g *gateway, path, name string) string {
	if name == "" {
		parent, field := path[:strings.LastIndexByte(path, '.')], path[strings.LastIndexByte(path, '.')+1:]
		g.Problem(CodeInvalid, parent, "or a credentialName", "the field %q is missing", field)
		return ""
	}
	return c.contents(g.object, path, name)
}

// contents reads a file that a document names.
func (c *compiler) contents(o *object, path, name string) string {
	text, err := c.files(name)
	if err != nil {
		o.Problem(CodeReference, path, "a file of the scenario's folder", "%v", err)
	}
	return string(text)
}

// certificateHosts are the hosts that a server's certificate is for; none when the server is for all.
func certificateHosts(hosts []served) []string {
	var out []string
	for _, h := range hosts {
		if h.host == "*" {
			return nil
		}
		if !slices.Contains(out, h.host) {
			out = append(out, h.host)
		}
	}
	return out
}
