// Package certtest makes certificates for the tests of who speaks TLS.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Authority signs certificates.
type Authority struct {
	PEM  string // its own certificate
	Pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Certificate is a certificate with its key, in both forms.
type Certificate struct {
	tls.Certificate
	Chain string // PEM
	Key   string // PEM
}

// NewAuthority makes an authority that trusts itself.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	a := &Authority{key: key, PEM: encode("CERTIFICATE", der), Pool: x509.NewCertPool()}
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.Pool.AddCert(a.cert)
	return a
}

// Issue signs a certificate that names can prove themselves with: DNS names, IP addresses and URIs. It is good for an hour.
func (a *Authority) Issue(t testing.TB, names ...string) Certificate {
	t.Helper()
	return a.issue(t, time.Now().Add(time.Hour), names)
}

// IssueExpired signs one that was good until a minute ago.
func (a *Authority) IssueExpired(t testing.TB, names ...string) Certificate {
	t.Helper()
	return a.issue(t, time.Now().Add(-time.Minute), names)
}

func (a *Authority) issue(t testing.TB, until time.Time, names []string) Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		switch ip := net.ParseIP(name); {
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		case strings.Contains(name, "://"):
			uri, err := url.Parse(name)
			require.NoError(t, err)
			template.URIs = append(template.URIs, uri)
		default:
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	c := Certificate{Chain: encode("CERTIFICATE", der), Key: encode("PRIVATE KEY", pkcs8)}
	c.Certificate, err = tls.X509KeyPair([]byte(c.Chain), []byte(c.Key))
	require.NoError(t, err)
	return c
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
