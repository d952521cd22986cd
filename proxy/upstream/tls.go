package upstream

import "fmt"

// HandshakeError says that a connection was made, and no TLS agreed on.
type HandshakeError struct {
	Address string
	Refused bool // the certificate of one side was refused by the other
	Err     error
}

func (e *HandshakeError) Error() string {
	return fmt.Sprintf("TLS handshake with %s: %v", e.Address, e.Err)
}

func (e *HandshakeError) Unwrap() error { return e.Err }
