package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
)

// alpn is HTTP/2, which gRPC speaks, in the words of TLS.
const alpn = "h2"

// TLS dials a control plane at HOST:PORT, and hangs up unless it proves to be that host to the given authorities, which are asked for at each connection because they may have
// been replaced since the last.
func TLS(address string, roots func() (*x509.CertPool, error)) Dial {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		err = fmt.Errorf("%q is no address of a control plane: %w", address, err)
		return func(context.Context) (net.Conn, error) { return nil, err }
	}
	plain := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) }
	return Secure(plain, host, roots)
}

// Secure encrypts the connections that dial makes, however they get there, with TLS 1.3, and hangs up on whoever does not prove to be the named server.
func Secure(dial Dial, serverName string, roots func() (*x509.CertPool, error)) Dial {
	return func(ctx context.Context) (net.Conn, error) {
		pool, err := roots()
		if err != nil {
			return nil, fmt.Errorf("reading whom to believe that it is %s: %w", serverName, err)
		}
		if pool == nil {
			return nil, fmt.Errorf("nobody is believed to be %s", serverName) // otherwise everybody would be whom this machine believes
		}
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		secured := tls.Client(conn, &tls.Config{ServerName: serverName, RootCAs: pool, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}})
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("asking for proof that it is %s: %w", serverName, err), conn.Close())
		}
		return secured, nil
	}
}

// ListenTLS wraps a listener so that its connections are encrypted with TLS 1.3, under the certificate that is current when each begins.
func ListenTLS(l net.Listener, certificate func() (*tls.Certificate, error)) net.Listener {
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate() },
	})
}
