// Package testport finds ports for servers of tests that have to be told where to listen before they do.
package testport

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports below those that the system gives to callers (Linux: from 32768), who would take one between the finding and the listening.
const (
	lowest = 12000
	number = 20000
)

var (
	mu   sync.Mutex
	next = rand.IntN(number) // elsewhere in each test process
)

// Loopback is an address of 127.0.0.1 where nobody listens. The same process is not given it again before it has been given all others.
func Loopback(t testing.TB) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range number {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+next))
		next = (next + 1) % number
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("there is no free port")
	return ""
}
