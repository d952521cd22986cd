package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// certificateLife is longer than any run; nothing is signed with the authority's key after the one certificate, and nobody keeps the key.
const certificateLife = 48 * time.Hour

// credentials are the control plane's certificate and key, and the authority that vouches for it, all PEM.
type credentials struct {
	authority []byte
	chain     []byte
	key       []byte
}

// newCredentials makes an authority for one run and has it sign the control plane's certificate for the given names.
func newCredentials(run string, names []string, now time.Time) (credentials, error) {
	c, err := makeCredentials(run, names, now)
	if err != nil {
		return credentials{}, fmt.Errorf("making the control plane's certificate: %w", err)
	}
	return c, nil
}

func makeCredentials(run string, names []string, now time.Time) (c credentials, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	from, until := now.Add(-time.Hour), now.Add(certificateLife) // clocks of nodes may differ
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "meshtest " + run}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return c, err
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return c, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return c, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return c, err
	}
	return credentials{
		authority: encodePEM("CERTIFICATE", caDER), chain: encodePEM("CERTIFICATE", leafDER), key: encodePEM("PRIVATE KEY", keyDER),
	}, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// roots is the pool of just the authority.
func (c credentials) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.authority)
	return pool
}
