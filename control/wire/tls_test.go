package wire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// certificate signs itself for localhost.
func certificate(t *testing.T) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func believe(pool *x509.CertPool) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) { return pool, nil }
}

func TestTLS(t *testing.T) {
	t.Parallel()
	own, pool := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := newFake()
	f.blocks = []mesh.EvidenceBlock{{Seq: 1}}
	digest := TokenDigest(DirectToken("key", "w.ns"))
	defer run(t, func(ctx context.Context) error {
		secured := ListenTLS(l, func() (*tls.Certificate, error) { return own, nil })
		return ServeDirect(ctx, secured, VerifyDigest(func() string { return digest }), f, f, f)
	})()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)

	blocks := 0
	direct := NewDirect(TLS("localhost:"+port, believe(pool)), DirectToken("key", "w.ns"))
	require.NoError(t, direct.Evidence(t.Context(), 0, func(mesh.EvidenceBlock) error { blocks++; return nil }))
	require.Equal(t, 1, blocks)
	stranger := NewDirect(TLS("localhost:"+port, believe(pool)), DirectToken("key", "v.ns"))
	require.ErrorContains(t, stranger.Evidence(t.Context(), 0, nil), "the token is not this sidecar's")

	_, other := certificate(t)
	_, err = TLS("localhost:"+port, believe(other))(t.Context())
	require.ErrorContains(t, err, "asking for proof that it is localhost")
	_, err = TLS("127.0.0.1:"+port, believe(pool))(t.Context())
	require.ErrorContains(t, err, "127.0.0.1", "it is another name")
	_, err = TLS("localhost:"+port, believe(nil))(t.Context())
	require.ErrorContains(t, err, "nobody is believed to be localhost")
	_, err = TLS("localhost:"+port, func() (*x509.CertPool, error) { return nil, errors.New("no file") })(t.Context())
	require.ErrorContains(t, err, "no file")
	_, err = TLS("localhost", believe(pool))(t.Context())
	require.ErrorContains(t, err, `"localhost" is no address of a control plane`)
}

func TestTLSGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 1)) // the greeting, which is never answered
		}
		if err == nil {
			accepted <- conn
		}
	}()
	_, pool := certificate(t)
	ctx, cancel := context.WithCancel(t.Context())
	greeted := make(chan error, 1)
	go func() {
		_, err := TLS(l.Addr().String(), believe(pool))(ctx)
		greeted <- err
	}()
	silent := <-accepted
	cancel()
	require.ErrorIs(t, <-greeted, context.Canceled)
	require.NoError(t, silent.Close())
}
