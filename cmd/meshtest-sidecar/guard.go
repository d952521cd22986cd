package main

import (
	"net"
	"net/http"
	"strings"
)

// guarded lets only those ask who connect to this machine by a name of its own and are no web page: a browser that was lured here has another name in Host, or an Origin. Whoever wants to change
// something shows a token.
func guarded(h http.Handler, allow func(token string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !local(r.Host):
			http.Error(w, "this is not "+r.Host, http.StatusForbidden)
		case r.Header.Get("Origin") != "":
			http.Error(w, "web pages have no business here", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !allow(bearer(r)):
			http.Error(w, "changing something takes the token of the direct listener", http.StatusUnauthorized)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// local reports whether HOST[:PORT] is a name for this machine that everybody's resolver knows.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	switch strings.Trim(host, "[]") {
	case "localhost", "127.0.0.1", "::1":
		return true
	default:
		return false
	}
}

func bearer(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return token
}
