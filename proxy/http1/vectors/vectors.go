// Package vectors holds what the proxy must refuse and what it must accept, as bytes: HTTP/1.1 messages written from the sentences of RFC 9110 and RFC 9112, and from
// the classes of request smuggling that are known in public. The codec's tests replay them, and so can a test that talks to a running proxy.
package vectors

import "strings"

// Request is one request as a client sends it, and what must become of it.
type Request struct {
	Name   string
	Rule   string // where the RFC says so, and what; or which attack it is
	In     string // the bytes; what a body needs is there, and for some vectors a second request behind it
	Status int    // of the refusal; 0 when it must be accepted
	Reason string // of the refusal, as the codec names it
	Want   Accepted
}

// Accepted is how an accepted request must be understood. Empty strings stand for GET, "/", "a" (the host), and "none" (the body).
type Accepted struct {
	Method, Path, Query, Host string
	Body                      string // none, content-length or chunked
	Length                    int64
	Close                     bool // the connection ends behind this request
	Expect, Upgrade           bool
	Rest                      string // what lies behind the head
}

// Response is one response as a server sends it.
type Response struct {
	Name    string
	Rule    string
	Method  string // of the request that it answers; "" is GET
	Upgrade bool   // the request offered an upgrade
	In      string
	Reason  string // of the refusal, which is always 502; "" when it must be accepted
	Status  int    // of an accepted one
	Body    string // none, content-length, chunked, until-close or tunnel
	Length  int64
	Close   bool
}

// Chunked is a body in the chunked transfer coding.
type Chunked struct {
	Name     string
	Rule     string
	In       string
	Status   int    // of the refusal when it came with a request; 0 stands for 400
	Reason   string // of the refusal; "" when it must be accepted
	Payload  string // decoded
	Relayed  string // what goes to the next hop; "" means In without Rest
	Trailers int
	Rest     string // what lies behind the body
}

// AsRequest puts the body into a request, for a test over a socket.
func (c Chunked) AsRequest(host string) string {
	return "POST / HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\n\r\n" + c.In
}

// AsResponse puts the body into a response.
func (c Chunked) AsResponse() string {
	return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + c.In
}

// Path is a path before and after normalisation.
type Path struct {
	In     string
	Want   [4]string // by level: none, base, merge slashes, decode and merge slashes
	Reason string    // of the refusal at every level
}

// Requests gives all request vectors.
func Requests() []Request {
	var all []Request
	for _, part := range [][]Request{requestLines(), targets(), hosts(), fieldLines(), lengths(), encodings(), connections()} {
		all = append(all, part...)
	}
	return all
}

// lines makes a head of lines.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

// get makes a GET with a Host and more lines.
func get(l ...string) string {
	return lines(append([]string{"GET / HTTP/1.1", "Host: a"}, l...)...)
}

// post makes a POST with a Host and more lines.
func post(l ...string) string {
	return lines(append([]string{"POST / HTTP/1.1", "Host: a"}, l...)...)
}
