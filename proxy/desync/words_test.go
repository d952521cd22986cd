package desync

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// method gives the method of a request as message.String gives it.
func method(seen string) string {
	m, _, _ := strings.Cut(seen, " ")
	return m
}

// saw gives what an origin says of it, which has no token.
func saw(seen string) string {
	head, _, _ := strings.Cut(seen, ` "`)
	return head + " []"
}

// named requires that all vectors have names of their own.
func named[V any](t *testing.T, all []V, name func(V) string) {
	t.Helper()
	known := map[string]bool{}
	for _, v := range all {
		require.False(t, known[name(v)], "two vectors are called %s", name(v))
		known[name(v)] = true
	}
}

// shortDir is a directory with a name that is short enough for sockets.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "desync")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// lines makes a head.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

// get and post make requests with Host and more lines.
func get(path string, l ...string) string {
	return lines(append([]string{"GET " + path + " HTTP/1.1", "Host: a"}, l...)...)
}

func post(path string, l ...string) string {
	return lines(append([]string{"POST " + path + " HTTP/1.1", "Host: a"}, l...)...)
}
