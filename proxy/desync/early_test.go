package desync

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// early is a request whose answer comes before its body: what is sent later is taken for the rest of that, or for nothing.
type early struct {
	name, rule string
	send       string // by HTTP/1.1: a head, and the beginning of a body
	say        string // the answer, which the origin gives without reading on
	rest       string // what the caller sends once he has the answer
	whole      bool   // the body can end with that
}

func earlyAnswers() []early {
	okay := "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nok"
	return []early{
		{"length", "9112 9.6: an answer before the end of the request", post("/vector", "Content-Length: 70000") + "abcde", okay, evil, false},
		{"chunked", "9112 9.6", post("/vector", "Transfer-Encoding: chunked") + "5\r\nabcde\r\n", okay, "0\r\n\r\n" + evil, true},
		{"chunked-in-chunk", "9112 9.6", post("/vector", "Transfer-Encoding: chunked") + "fff\r\nabcde", okay, evil, false},
		{"expect", "9110 10.1.1: a final answer in place of 100; the body is not sent, or it is", post("/vector", "Content-Length: 5", "Expect: 100-continue"), okay, evil, true},
		{"expect-chunked", "9110 10.1.1", post("/vector", "Transfer-Encoding: chunked", "Expect: 100-continue"), okay, "0\r\n\r\n" + evil, true},
		{"close", "9112 9.6", post("/vector", "Content-Length: 70000") + "abcde", lines("HTTP/1.1 413 No", "Content-Length: 2", "Connection: close") + "ok", evil, false},
		{"answer-behind", "9112 6.3", post("/vector", "Content-Length: 70000") + "abcde", okay + leaked, evil, false},
		{"body-as-answer", "9112 6.3", post("/vector", "Content-Length: 70000") + leaked, okay, leaked, false},
	}
}

// TestEarlyAnswers answers before the body is there. The connection to the origin, which reads what comes next as the rest of the body, carries nothing else before that has ended.
func TestEarlyAnswers(t *testing.T) {
	t.Parallel()
	for _, v := range earlyAnswers() {
		t.Run("1/"+v.name, func(t *testing.T) {
			t.Parallel()
			o := &scripted{}
			o.listen(t, func(n int, c net.Conn) { v.serve(o, n, c) })
			s := newSidecar(t, o.at, mesh.HTTP)
			c := call(t, s.at)
			c.say(v.send)
			require.False(t, c.answer("POST", 413, "ok"), "the connection goes on without the rest of the body")
			c.say(v.rest)
			c.ends()
			c.Close()
			v.end(t, o, s)
		})
	}
	v := earlyAnswers()[0]
	t.Run("2", func(t *testing.T) {
		t.Parallel()
		o := &scripted{}
		o.listen(t, func(n int, c net.Conn) { v.serve(o, n, c) })
		s := newSidecar(t, o.at, mesh.HTTP)
		c := call2(t, s.at)
		id := c.open()
		c.head(id, request2("POST", "/vector", "content-length", "70000"), false)
		c.data(id, "abcde", false)
		c.answer(id, 413, "ok")
		c.data(id, evil, true)
		c.Close()
		v.end(t, o, s)
	})
}

// serve answers the vector's request before its body has come, which it reads afterwards.
func (v *early) serve(o *scripted, n int, c net.Conn) {
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		m := message{method: req.Method, target: req.RequestURI, token: req.Header.Get("X-Token")}
		if m.target == "/vector" {
			o.saw(n, m)
			_, _ = io.WriteString(c, v.say)
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			continue
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		m.body = string(body)
		o.saw(n, m)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Saw: %s\r\nContent-Length: %d\r\n\r\n%s", m.saw(), len(m.saw()), m.saw())
	}
}

func (v *early) end(t *testing.T, o *scripted, s *sidecar) {
	t.Helper()
	sent := &probes{}
	(&sent2{}).more(t, s, sent)
	s.stop()
	o.stop()
	o.check(t, message{method: "POST", target: "/vector"}, sent, v.whole, false)
}

// TestHowMany holds the number of vectors, those of this package alone: what the codec's bring is not counted.
func TestHowMany(t *testing.T) {
	t.Parallel()
	counts := map[string]int{
		"requests of HTTP/1.1": len(smuggled()) + len(bodies()), "requests of HTTP/2": len(requests2()), "frames": len(badFrames()),
		"answers of HTTP/1.1": len(answers()) + len(earlyAnswers()), "answers of HTTP/2": len(answers2()),
	}
	all := 0
	for what, n := range counts {
		t.Logf("%s: %d", what, n)
		all += n
	}
	t.Logf("with the codec's: %d", all+len(codec())+len(codecAnswers()))
	require.GreaterOrEqual(t, all, 200)
	require.GreaterOrEqual(t, len(codec())+len(codecAnswers()), 300)
}
