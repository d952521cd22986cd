package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// certify writes a certificate authority, and a certificate of it for the host: ca.pem, origin.pem and origin.key.
func certify(dir, host string) error {
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the authority's key: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the origin's key: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return fmt.Errorf("encoding the origin's key: %w", err)
	}
	for _, f := range []struct {
		name, kind string
		make       func() ([]byte, error)
	}{
		{"ca.pem", "CERTIFICATE", func() ([]byte, error) {
			return x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
		}},
		{"origin.pem", "CERTIFICATE", func() ([]byte, error) {
			return x509.CreateCertificate(rand.Reader, leaf, authority, &leafKey.PublicKey, authorityKey)
		}},
		{"origin.key", "PRIVATE KEY", func() ([]byte, error) { return key, nil }},
	} {
		der, err := f.make()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, f.name), pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: der}), 0o600)
		}
		if err != nil {
			return fmt.Errorf("making %s: %w", f.name, err)
		}
	}
	return nil
}
