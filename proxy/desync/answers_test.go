package desync

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// said is what an origin of HTTP/1.1 says to one request, and what must come of it.
type said struct {
	name, rule string
	method     string // of the request; "" is GET
	say        string
	hangup     bool   // and closes
	late       string // once the caller has the answer
	status     int    // that the caller gets; 0: no whole answer, or the proxy's
	body       string // that he gets with it
	kept       bool   // the connection to the origin carries another request
}

// scripted is an origin that says what a vector says to a request for /vector, and answers probes.
type scripted struct {
	at   string
	stop func() // ends it with its connections

	mu    sync.Mutex
	seen  []string // requests, by connection
	conns []net.Conn
	asked chan struct{} // the caller has the answer
	told  chan struct{} // all is said
	over  chan struct{} // the test is
}

// listen begins to serve connections.
func (o *scripted) listen(t *testing.T, serve func(n int, c net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	o.at, o.asked, o.told, o.over = l.Addr().String(), make(chan struct{}), make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns = append(o.conns, c)
			n := len(o.conns)
			o.mu.Unlock()
			all.Go(func() {
				defer c.Close()
				serve(n, c)
			})
		}
	})
	o.stop = sync.OnceFunc(func() {
		close(o.over)
		l.Close()
		o.mu.Lock()
		for _, c := range o.conns {
			c.Close()
		}
		o.mu.Unlock()
		all.Wait()
	})
	t.Cleanup(o.stop)
}

// saw notes a request.
func (o *scripted) saw(n int, m message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, fmt.Sprintf("%d: %v", n, m))
}

// newScripted starts an origin of HTTP/1.1.
func newScripted(t *testing.T, v *said) *scripted {
	o := &scripted{}
	o.listen(t, func(n int, c net.Conn) {
		in := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			m := message{method: req.Method, target: req.RequestURI, token: req.Header.Get("X-Token"), body: string(body)}
			o.saw(n, m)
			if m.target != "/vector" {
				_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Saw: %s\r\nContent-Length: %d\r\n\r\n%s", m.saw(), len(m.saw()), m.saw())
				continue
			}
			_, _ = io.WriteString(c, v.say)
			if v.hangup {
				return
			}
			if v.late != "" {
				select {
				case <-o.asked:
				case <-o.over:
					return
				}
				_, _ = io.WriteString(c, v.late)
				close(o.told)
			}
		}
	})
	return o
}

// TestAnswersOverHTTP1 lets an origin say every vector, to callers of both protocols.
func TestAnswersOverHTTP1(t *testing.T) {
	t.Parallel()
	vectors := slices.Concat(answers(), codecAnswers())
	named(t, vectors, func(v said) string { return v.name })
	for _, v := range vectors {
		for name, try := range map[string]func(*said, *testing.T){"1": (*said).try, "2": (*said).try2} {
			t.Run(name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				try(&v, t)
			})
		}
	}
}

func (v *said) asks() string {
	if v.method == "" {
		return "GET"
	}
	return v.method
}

// try asks by HTTP/1.1.
func (v *said) try(t *testing.T) {
	o := newScripted(t, v)
	s := newSidecar(t, o.at, mesh.HTTP)
	sent := &probes{}
	c := call(t, s.at)
	c.say(lines(v.asks()+" /vector HTTP/1.1", "Host: a"))
	open := c.answer(v.asks(), v.status, v.body)
	v.afterwards(o)
	if open {
		c.probe(sent)
	} else {
		c.ends()
	}
	c.Close()
	v.end(t, o, s, sent, open)
}

// answer requires an answer, and reports whether the connection goes on.
func (c *caller) answer(method string, status int, body string) (open bool) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	for err == nil && resp.StatusCode < 200 {
		resp, err = http.ReadResponse(c.r, &http.Request{Method: method})
	}
	got := []byte(nil)
	if err == nil {
		got, err = io.ReadAll(resp.Body)
	}
	if status == 0 {
		require.True(c.t, err != nil || resp.Header.Get(mesh.HeaderReason) != "", "the answer looks whole: %.200q", got)
		if err != nil {
			_, _ = io.Copy(io.Discard, c.r) // framing that comes to nothing
		}
		return err == nil && !resp.Close
	}
	require.NoError(c.t, err)
	require.Equal(c.t, status, resp.StatusCode)
	if status != 502 && status != 503 {
		require.Equal(c.t, body, string(got))
	}
	return !resp.Close
}

// try2 asks by HTTP/2.
func (v *said) try2(t *testing.T) {
	o := newScripted(t, v)
	s := newSidecar(t, o.at, mesh.HTTP)
	sent := &probes{}
	c := call2(t, s.at)
	id := c.open()
	c.head(id, request2(v.asks(), "/vector"), true)
	c.answer(id, v.status, v.body)
	v.afterwards(o)
	c.probe(sent)
	c.Close()
	v.end(t, o, s, sent, false)
}

// answer requires an answer.
func (c *caller2) answer(id uint32, status int, body string) {
	c.t.Helper()
	r := c.result(id)
	require.False(c.t, c.dead, "the connection has ended")
	if status == 0 {
		require.True(c.t, r.reset || r.fields[mesh.HeaderReason] != "", "the answer looks whole: %.200q", r.body)
		return
	}
	require.True(c.t, r.ended, "reset: %v", r.code)
	require.Equal(c.t, status, r.status())
	if status != 502 && status != 503 {
		require.Equal(c.t, body, string(r.body))
	}
}

// afterwards lets the origin say what it says when the caller has his answer.
func (v *said) afterwards(o *scripted) {
	if v.late != "" {
		close(o.asked)
		<-o.told
	}
}

// end sends probes on other connections, and compares what the origin saw.
func (v *said) end(t *testing.T, o *scripted, s *sidecar, sent *probes, sure bool) {
	t.Helper()
	(&sent2{}).more(t, s, sent)
	s.stop()
	o.stop()
	o.check(t, message{method: v.asks(), target: "/vector"}, sent, v.kept, sure)
}

// check requires that the origin saw the vector's request once, and the probes; and that the connection of the vector carried those, or did not. Only the caller's own connection is sure to find it again: another
// request may come before it was given back.
func (o *scripted) check(t *testing.T, first message, sent *probes, kept, sure bool) {
	t.Helper()
	again := false
	for _, s := range o.seen[1:] {
		again = again || strings.HasPrefix(s, "1: ")
	}
	want := []string{first.String()}
	for _, m := range sent.sent {
		want = append(want, m.String())
	}
	require.Equal(t, want, o.requests())
	require.False(t, again && !kept, "requests by connection: %q", o.seen)
	require.False(t, kept && sure && !again, "requests by connection: %q", o.seen)
}

// requests are those that were seen, in their order.
func (o *scripted) requests() []string {
	var list []string
	for _, s := range o.seen {
		_, m, _ := strings.Cut(s, ": ")
		list = append(list, m)
	}
	return list
}
