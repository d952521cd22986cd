package desync

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// message2 is one direction of a stream as it was read.
type message2 struct {
	stream   uint32
	fields   map[string]string
	body     []byte
	trailers bool
	ended    bool
}

var (
	fieldName2  = regexp.MustCompile("^:?[!#$%&'*+.^_|~0-9a-z`-]+$")
	fieldValue2 = regexp.MustCompile(`^(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?$`)
)

// readFrames reads one direction of a connection of HTTP/2, and accepts well-formed messages only. It gives them in the order of their streams.
func readFrames(raw []byte) ([]*message2, error) {
	raw = bytes.TrimPrefix(raw, []byte(http2.ClientPreface))
	framer := http2.NewFramer(io.Discard, bytes.NewReader(raw))
	framer.SetMaxReadFrameSize(1<<24 - 1)
	framer.AllowIllegalReads = true
	dec := hpack.NewDecoder(4096, nil)
	streams := map[uint32]*message2{}
	var order []uint32
	var block []byte
	last := false // the block that is being read ends its stream
	for {
		f, err := framer.ReadFrame()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		id := f.Header().StreamID
		m := streams[id]
		whole, ended := false, false
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if m == nil {
				m = &message2{stream: id}
				streams[id] = m
				order = append(order, id)
			}
			block, whole, last = slices.Clone(f.HeaderBlockFragment()), f.HeadersEnded(), f.StreamEnded()
		case *http2.ContinuationFrame:
			block, whole = append(block, f.HeaderBlockFragment()...), f.HeadersEnded()
		case *http2.DataFrame:
			if m == nil || m.ended {
				return nil, fmt.Errorf("DATA on stream %d, which is not open", id)
			}
			m.body = append(m.body, f.Data()...)
			ended = f.StreamEnded()
		}
		if whole {
			fields, err := dec.DecodeFull(block)
			if err != nil {
				return nil, err
			}
			if err := m.take(fields); err != nil {
				return nil, fmt.Errorf("stream %d: %w", id, err)
			}
			ended = last
		}
		if m != nil && ended {
			m.ended = true
		}
	}
	slices.Sort(order)
	var list []*message2
	for _, id := range order {
		if err := streams[id].judge(); err != nil {
			return nil, fmt.Errorf("stream %d: %w", id, err)
		}
		list = append(list, streams[id])
	}
	return list, nil
}

// take takes a header block: the head, an interim one before it, or trailers.
func (m *message2) take(list []hpack.HeaderField) error {
	if m.ended {
		return errors.New("HEADERS behind the end")
	}
	fields := map[string]string{}
	regular := false
	for _, f := range list {
		_, twice := fields[f.Name]
		switch pseudo := f.Name != "" && f.Name[0] == ':'; {
		case !fieldName2.MatchString(f.Name), !fieldValue2.MatchString(f.Value):
			return fmt.Errorf("not a field: %q: %q", f.Name, f.Value)
		case pseudo && (regular || twice):
			return fmt.Errorf("%s twice, or behind other fields", f.Name)
		case twice && (f.Name == "host" || f.Name == "content-length"):
			return fmt.Errorf("%s twice", f.Name)
		case f.Name == "transfer-encoding", f.Name == "te" && f.Value != "trailers", f.Name != "te" && slices.Contains(connectionFields, f.Name):
			return fmt.Errorf("%s in HTTP/2", f.Name)
		default:
			regular = regular || !pseudo
		}
		fields[f.Name] = f.Value
	}
	switch {
	case m.fields == nil, m.fields[":status"] != "" && m.fields[":status"] < "200":
		m.fields = fields
	case fields[":method"]+fields[":status"] != "":
		return errors.New("a second head")
	default:
		m.trailers = true
	}
	return nil
}

// judge judges the whole message.
func (m *message2) judge() error {
	length, there := m.fields["content-length"]
	if there && m.ended && m.fields[":method"] != "" && length != strconv.Itoa(len(m.body)) {
		return fmt.Errorf("content-length %s and %d bytes", length, len(m.body))
	}
	return nil
}

// readRequests2 is readRequests for HTTP/2.
func readRequests2(raw []byte) (list []message, err error) {
	all, err := readFrames(raw)
	for _, m := range all {
		f := m.fields
		if f[":method"] == "" || f[":authority"] == "" || f[":path"] == "" || f[":scheme"] == "" {
			return list, fmt.Errorf("not a request: %v", f)
		}
		list = append(list, message{method: f[":method"], target: f[":path"], token: f["x-token"], body: string(m.body), part: !m.ended, stream: m.stream})
	}
	return list, err
}

// readAnswers2 is readAnswers for HTTP/2. It gives "" where there is no answer.
func readAnswers2(raw []byte, to []message) (list []string, err error) {
	all, err := readFrames(raw)
	list = make([]string, len(to))
	for _, m := range all {
		i := slices.IndexFunc(to, func(r message) bool { return r.stream == m.stream })
		if i < 0 {
			return list, fmt.Errorf("an answer on stream %d, where nothing was asked", m.stream)
		}
		status, _ := strconv.Atoi(m.fields[":status"])
		list[i] = answerOf(status, m.fields["x-saw"])
	}
	return list, err
}
