package proxy

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// payload is n bytes that tell where they are from, so that a byte in the wrong place is noticed.
func payload(rnd *rand.Rand, n int) string {
	b := make([]byte, n)
	first := byte('a' + rnd.IntN(26))
	for i := range b {
		b[i] = first + byte(i%5)
	}
	return string(b)
}

// chunked writes a body in chunks of random sizes, some with extensions.
func chunked(rnd *rand.Rand, body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := 1 + rnd.IntN(min(len(body), 1+rnd.IntN(20_000)))
		extension := ""
		if rnd.IntN(4) == 0 {
			extension = `;ext="x;y"`
		}
		fmt.Fprintf(&b, "%x%s\r\n%s\r\n", n, extension, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// message is a body with its framing.
func message(rnd *rand.Rand, body string) string {
	if rnd.IntN(2) == 0 {
		return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	return "Transfer-Encoding: chunked\r\n\r\n" + chunked(rnd, body)
}

// inPieces writes in pieces of random sizes.
func inPieces(rnd *rand.Rand, w io.Writer, s string) error {
	for len(s) > 0 {
		n := len(s)
		if rnd.IntN(3) > 0 {
			n = 1 + rnd.IntN(n)
		}
		if _, err := io.WriteString(w, s[:n]); err != nil {
			return err
		}
		s = s[n:]
	}
	return nil
}

var sizes = []int{0, 1, 5, 100, 1000, 4000, 16 << 10, 17_000, 60_000, maxReplay, maxReplay + 1, 200_000}

// TestNoByteCrossesOver sends pipelined requests of all sizes and framings in pieces, to an origin that echoes in as many ways: every answer must be the echo of its request.
func TestNoByteCrossesOver(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, func(k *talk) {
		rnd := rand.New(rand.NewPCG(1, uint64(k.n)))
		for {
			req, body := k.request()
			if req == nil {
				return
			}
			head := "HTTP/1.1 200 OK\r\nx-path: " + req.URL.Path + "\r\n"
			if rnd.IntN(5) == 0 {
				head = "HTTP/1.1 103 Early Hints\r\n\r\n" + head
			}
			if inPieces(rnd, k, head+message(rnd, body)) != nil {
				return
			}
		}
	}, nil)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(2, uint64(w)))
			for round := range 6 {
				c := call(t, at)
				type sent struct{ path, body string }
				var expected []sent
				var everything strings.Builder
				for i := range 1 + rnd.IntN(8) {
					one := sent{fmt.Sprintf("/%d/%d/%d", w, round, i), payload(rnd, sizes[rnd.IntN(len(sizes))])}
					expected = append(expected, one)
					fmt.Fprintf(&everything, "POST %s HTTP/1.1\r\nHost: b\r\n%s", one.path, message(rnd, one.body))
				}
				var writing sync.WaitGroup
				pieces := rand.New(rand.NewPCG(3, uint64(w*100+round)))
				writing.Go(func() { _ = inPieces(pieces, c, everything.String()) }) // the connection may end before: then a request is not answered
				for _, want := range expected {
					resp, err := readFinal(c)
					if err != nil {
						t.Errorf("%s: %v", want.path, err)
						break
					}
					if resp.path != want.path || resp.body != want.body {
						t.Errorf("%s got the answer of %s: %d bytes instead of %d", want.path, resp.path, len(resp.body), len(want.body))
						break
					}
					if resp.closes { // the answer began before the request had ended: what follows is for another connection
						break
					}
				}
				c.Close()
				writing.Wait()
			}
		})
	}
	all.Wait()
}

type echoed struct {
	path, body string
	closes     bool
}

func readFinal(c *caller) (echoed, error) {
	for {
		resp, err := http.ReadResponse(c.r, &http.Request{Method: "POST"})
		if err != nil {
			return echoed{}, err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return echoed{}, err
		}
		if resp.StatusCode == 200 {
			return echoed{resp.Header.Get("x-path"), string(body), resp.Close}, nil
		}
		if resp.StatusCode >= 200 {
			return echoed{}, fmt.Errorf("status %d %s: %s", resp.StatusCode, resp.Header, bytes.TrimSpace(body))
		}
	}
}

// TestManyConnections keeps many connections busy with a request each, in two segments, and half-closes them.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	_, _, at := simple(t, echoing, nil)
	const n = 300
	var all sync.WaitGroup
	failures := make(chan error, n)
	for i := range n {
		c := call(t, at)
		all.Go(func() {
			body := fmt.Sprintf("I am %d", i)
			request := fmt.Sprintf("POST / HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			for range 3 {
				if err := inPieces(rand.New(rand.NewPCG(4, uint64(i))), c, request); err != nil {
					failures <- err
					return
				}
			}
			for range 3 {
				got, err := readFinal(c)
				if err != nil || got.body != body {
					failures <- fmt.Errorf("connection %d got %q: %w", i, got.body, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
}
