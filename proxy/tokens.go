package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"meshtest.dev/meshtest/mesh"
)

// secret is what is kept of a token: enough to recognise it. The zero value recognises none.
type secret struct {
	sum   [sha256.Size]byte
	known bool
}

func secretOf(token string) secret {
	return secret{sha256.Sum256([]byte(token)), token != ""}
}

// secretBy is the secret with a digest in hexadecimal; none when it is empty.
func secretBy(digest string) (s secret, err error) {
	if digest == "" {
		return s, nil
	}
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) != len(s.sum) {
		return s, fmt.Errorf("a digest is %d bytes in hexadecimal, not %d characters", len(s.sum), len(digest))
	}
	copy(s.sum[:], sum)
	s.known = true
	return s, nil
}

// is reports whether the token is right, in a time that does not tell how much of it is.
func (s *secret) is(token []byte) bool {
	given := sha256.Sum256(token)
	return subtle.ConstantTimeCompare(given[:], s.sum[:]) == 1 && s.known
}

func (c *compiler) tokens(t mesh.Tokens) {
	var err error
	if c.next.edgeToken, err = secretBy(t.Edge); err != nil {
		c.errs = append(c.errs, fmt.Errorf("edge token: %w", err))
	}
	if c.next.directToken, err = secretBy(t.Direct); err != nil {
		c.errs = append(c.errs, fmt.Errorf("direct token: %w", err))
	}
}

// knows reports whether the token is that of the run's load.
func (s *Server) knows(c *config, token []byte) bool {
	return s.token.is(token) || c.edgeToken.is(token)
}

// KnowsDirect reports whether the token is the one that the configuration in force has for callers of the direct listener (mesh.Tokens). Without such a configuration none is.
func (s *Server) KnowsDirect(token string) bool {
	return s.config.Load().directToken.is([]byte(token))
}
