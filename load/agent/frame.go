package agent

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// kind says what a frame is. The numbers are on the wire.
type kind byte

const (
	kindHello kind = iota + 1
	kindWelcome
	kindPing
	kindPong
	kindStart
	kindBeat
	kindRecords
	kindStop
	kindResult
	kindFailure
)

func (k kind) String() string {
	names := [...]string{"nothing", "hello", "welcome", "ping", "pong", "start", "beat", "records", "stop", "result", "failure"}
	if int(k) >= len(names) {
		return fmt.Sprintf("kind %d", byte(k))
	}
	return names[k]
}

// Bounds of frames, in bytes.
const (
	maxFrame    = 1 << 20
	maxStart    = 16 << 20 // the stream with its body
	maxGreeting = 4 << 10  // from somebody unknown
)

// Times of the protocol.
const (
	// Silence is how long either side may say nothing before the other takes it for gone.
	Silence = 10 * time.Second

	beatEvery  = time.Second
	batchEvery = 50 * time.Millisecond
	greeting   = 10 * time.Second // for everything before the load starts
	farewell   = time.Second      // for saying why, when all has to end
)

var (
	errSilent = fmt.Errorf("nothing was heard for %v", Silence)
	errFrame  = errors.New("that is not the protocol of a load agent")
)

// A link sends and receives frames. One goroutine may receive, and one other send.
type link struct {
	conn   net.Conn
	in     *bufio.Reader
	out    []byte
	watch  *time.Timer // closes the connection when a read takes too long
	silent atomic.Bool
	got    []byte // the frame that was read last
}

func newLink(conn net.Conn) *link {
	l := &link{conn: conn}
	l.watch = time.AfterFunc(Silence, l.fallSilent)
	l.watch.Stop()
	l.in = bufio.NewReaderSize(heard{l}, 64<<10)
	return l
}

// fallSilent breaks the connection. That works with connections that know no deadlines, too.
func (l *link) fallSilent() {
	l.silent.Store(true)
	l.conn.Close()
}

// heard reads from the link's connection, each time for Silence at most.
type heard struct{ *link }

func (h heard) Read(p []byte) (int, error) {
	h.watch.Reset(Silence)
	defer h.watch.Stop()
	n, err := h.conn.Read(p)
	if err != nil && h.silent.Load() {
		err = errSilent
	}
	return n, err
}

// receive reads one frame of at most limit bytes. Its content is good until the next call.
func (l *link) receive(limit int) (kind, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(l.in, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length == 0 || length > uint32(limit) {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes, where 1 to %d are allowed", errFrame, length, limit)
	}
	if err := l.fill(int(length)); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind(l.got[0]), l.got[1:], nil
}

// fill reads n bytes into got. Memory follows what has come, not what was announced.
func (l *link) fill(n int) error {
	l.got = l.got[:0]
	for len(l.got) < n {
		part := min(n-len(l.got), 64<<10)
		at := len(l.got)
		l.got = append(l.got, make([]byte, part)...)
		if _, err := io.ReadFull(l.in, l.got[at:]); err != nil {
			return err
		}
	}
	return nil
}

// send writes one frame, in one write.
func (l *link) send(k kind, content ...[]byte) error {
	l.out = append(l.out[:0], 0, 0, 0, 0, byte(k))
	for _, c := range content {
		l.out = append(l.out, c...)
	}
	binary.BigEndian.PutUint32(l.out, uint32(len(l.out)-4))
	_, err := l.conn.Write(l.out)
	return err
}

// expect reads a frame of that kind. A failure is returned as such.
func (l *link) expect(want kind, limit int) ([]byte, error) {
	k, content, err := l.receive(limit)
	switch {
	case err != nil:
		return nil, err
	case k == want:
		return content, nil
	case k == kindFailure:
		return nil, readFailure(content)
	default:
		return nil, fmt.Errorf("%w: %v, where %v belongs", errFrame, k, want)
	}
}

func (l *link) close() {
	l.watch.Stop()
	l.conn.Close()
}
