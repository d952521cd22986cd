package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"meshtest.dev/meshtest/control/wire"
)

// guarded lets only those ask who connect to this machine by a name of its own and are no web page: a browser that was lured here has another name in Host, or an Origin. Whoever wants to change
// something shows a token; who has none is told which one it takes.
func guarded(h http.Handler, allow func(token string) bool, takes string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !local(r.Host):
			http.Error(w, "this is not "+r.Host, http.StatusForbidden)
		case r.Header.Get("Origin") != "":
			http.Error(w, "web pages have no business here", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !allow(bearer(r)):
			w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110, 11.6.1
			http.Error(w, "changing something takes "+takes, http.StatusUnauthorized)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// directToken is whose token the admin of a sidecar takes that is told what to do.
const directToken = "the token of the direct listener"

// local reports whether HOST[:PORT] is this machine whoever is asked: a name that everybody's resolver knows, or an address that leads nowhere else.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// checkAdmin refuses an address for questions that others than this machine may connect to: whoever asks learns the whole configuration.
func checkAdmin(address string) error {
	switch host, _, err := net.SplitHostPort(address); {
	case err != nil:
		return fmt.Errorf("--admin: %w; it is HOST:PORT, such as 127.0.0.1:15000", err)
	case !local(host):
		return fmt.Errorf("--admin %s is not on loopback: such as 127.0.0.1:15000, which others reach by a tunnel (ssh -L, docker exec)", address)
	default:
		return nil
	}
}

// maxToken bounds a file with a token, in bytes.
const maxToken = 4 << 10

// readToken reads a token from a file, or from a descriptor that is named as one (/dev/fd/3), so that it is in nobody's arguments. Without a file it is empty, which no token is.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading the token of the admin: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	token := strings.TrimSpace(string(text))
	switch {
	case err != nil:
	case token == "":
		err = errors.New("it is empty")
	case len(text) > maxToken:
		err = fmt.Errorf("it is larger than %d bytes", maxToken)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		err = errors.New("a token is one word of printable ASCII")
	}
	if err != nil {
		return "", fmt.Errorf("reading the token of the admin from %s: %w", path, err)
	}
	return token, nil
}

// adminSite answers questions where --admin says, and lets those change something who show the token of --admin-token-file.
func (o standalone) adminSite(h http.Handler) (site, error) {
	token, err := readToken(o.tokenFile)
	if err != nil {
		return site{}, err
	}
	l, err := net.Listen("tcp", o.admin)
	if err != nil {
		return site{}, fmt.Errorf("listening for questions: %w", err)
	}
	takes := "the token of --admin-token-file"
	if token == "" {
		takes = "a token, and this sidecar has none: it is started with --admin-token-file"
	}
	return site{"admin", l, guarded(h, wire.Verify(token), takes)}, nil
}

func bearer(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return token
}
