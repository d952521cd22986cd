package desync

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// message is one request as it was read.
type message struct {
	method, target, token, body string
	part                        bool   // it is not whole
	stream                      uint32 // of HTTP/2
}

// String is how vectors say what is to be seen: the method, the target, the token if there is one, and the body in quotes if there is one.
func (m message) String() string {
	text := m.method + " " + m.target
	if m.token != "" {
		text += " " + m.token
	}
	if m.body != "" {
		text += " " + strconv.Quote(m.body)
	}
	if m.part {
		text += " ..."
	}
	return text
}

// saw is what an origin says of it.
func (m message) saw() string { return m.method + " " + m.target + " [" + m.token + "]" }

const tchar = "[!#$%&'*+.^_|~0-9A-Za-z`-]+"

var (
	requestLine = regexp.MustCompile("^(" + tchar + `) ([!-~]+) HTTP/1\.1$`)
	fieldLine   = regexp.MustCompile("^(" + tchar + `): ?([^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?$`)
	chunkLine   = regexp.MustCompile(`^[0-9a-fA-F]{1,16}$`)
)

// connectionFields end at each hop (RFC 9110, 7.6.1): a request that is passed on has none of them, unless it asks for an upgrade.
var connectionFields = []string{"connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "proxy-authenticate"}

// readRequests reads what was sent on a connection of HTTP/1.1, and accepts canonical messages only.
func readRequests(raw []byte) (list []message, err error) {
	for len(raw) > 0 {
		head, rest, whole := bytes.Cut(raw, []byte("\r\n\r\n"))
		if !whole {
			return list, fmt.Errorf("a head without end: %q", raw)
		}
		m, fields, err := readHead(string(head))
		if err != nil {
			return list, err
		}
		body, rest, err := readBody(fields, rest)
		if m.body, m.part = body, errors.Is(err, io.ErrUnexpectedEOF); err != nil && !m.part {
			return list, fmt.Errorf("the body of %v: %w", m, err)
		}
		list = append(list, m)
		raw = rest
	}
	return list, nil
}

// readHead reads a request line and fields.
func readHead(head string) (m message, fields map[string]string, err error) {
	lines := strings.Split(head, "\r\n")
	first := requestLine.FindStringSubmatch(lines[0])
	if first == nil {
		return m, nil, fmt.Errorf("not a request line: %q", lines[0])
	}
	if fields, err = readFields(lines[1:]); err != nil {
		return m, nil, err
	}
	m = message{method: first[1], target: first[2], token: fields["x-token"]}
	_, upgrades := fields["upgrade"]
	for _, name := range connectionFields {
		if _, there := fields[name]; there && !upgrades {
			return m, nil, fmt.Errorf("%s was passed on in %q", name, head)
		}
	}
	if _, ok := fields["host"]; !ok {
		return m, nil, fmt.Errorf("no Host in %q", head)
	}
	return m, fields, nil
}

// readFields reads lines. What frames or directs a message may be there once.
func readFields(lines []string) (map[string]string, error) {
	fields := map[string]string{}
	for _, line := range lines {
		f := fieldLine.FindStringSubmatch(line)
		if f == nil {
			return nil, fmt.Errorf("not a field line: %q", line)
		}
		name := strings.ToLower(f[1])
		if _, twice := fields[name]; twice && (name == "host" || name == "content-length" || name == "transfer-encoding" || name == "x-token") {
			return nil, fmt.Errorf("%s twice", name)
		}
		fields[name] = f[2]
	}
	return fields, nil
}

// readBody reads a body and gives what lies behind it.
func readBody(fields map[string]string, raw []byte) (body string, rest []byte, err error) {
	length, hasLength := fields["content-length"]
	coding, hasCoding := fields["transfer-encoding"]
	switch {
	case hasLength && hasCoding:
		return "", nil, errors.New("both Content-Length and Transfer-Encoding")
	case hasCoding && coding != "chunked":
		return "", nil, fmt.Errorf("Transfer-Encoding: %s", coding)
	case hasCoding:
		return readChunks(raw)
	case !hasLength:
		return "", raw, nil
	}
	n, err := strconv.ParseUint(length, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != length {
		return "", nil, fmt.Errorf("Content-Length: %s", length)
	}
	if uint64(len(raw)) < n {
		return string(raw), nil, io.ErrUnexpectedEOF
	}
	return string(raw[:n]), raw[n:], nil
}

// readChunks reads a chunked body without extensions.
func readChunks(raw []byte) (body string, rest []byte, err error) {
	for {
		line, after, whole := bytes.Cut(raw, []byte("\r\n"))
		if !whole {
			return body, nil, io.ErrUnexpectedEOF
		}
		if !chunkLine.Match(line) {
			return body, nil, fmt.Errorf("not a chunk size: %q", line)
		}
		size, err := strconv.ParseUint(string(line), 16, 63)
		if err != nil {
			return body, nil, err
		}
		if size == 0 {
			rest, err := readTrailers(after)
			return body, rest, err
		}
		if uint64(len(after)) < size+2 {
			return body + string(after[:min(uint64(len(after)), size)]), nil, io.ErrUnexpectedEOF
		}
		if string(after[size:size+2]) != "\r\n" {
			return body, nil, errors.New("a chunk without CRLF behind it")
		}
		body += string(after[:size])
		raw = after[size+2:]
	}
}

func readTrailers(raw []byte) (rest []byte, err error) {
	if after, none := bytes.CutPrefix(raw, []byte("\r\n")); none {
		return after, nil
	}
	text, rest, whole := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !whole {
		return nil, io.ErrUnexpectedEOF
	}
	fields, err := readFields(strings.Split(string(text), "\r\n"))
	for _, framing := range []string{"content-length", "transfer-encoding", "host"} {
		if _, there := fields[framing]; there {
			return nil, fmt.Errorf("%s as a trailer", framing)
		}
	}
	return rest, err
}

// readAnswers reads what an origin of HTTP/1.1 answered to requests: what it says that it saw, or with which status it refused.
func readAnswers(raw []byte, to []message) (list []string, err error) {
	in := bufio.NewReader(bytes.NewReader(raw))
	for {
		if _, err := in.Peek(1); err != nil {
			return list, nil
		}
		method := ""
		if len(list) < len(to) {
			method = to[len(list)].method
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return list, fmt.Errorf("an answer of the origin: %w", err)
		}
		_, _ = io.Copy(io.Discard, resp.Body) // the origin may have been cut off in the midst
		if resp.StatusCode >= 200 {
			list = append(list, answerOf(resp.StatusCode, resp.Header.Get("X-Saw")))
		}
	}
}

// answerOf says what an answer says.
func answerOf(status int, saw string) string {
	if status != 200 {
		return "refused " + strconv.Itoa(status)
	}
	return saw
}
