//go:build unix

package supervisor

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// request is what the run asks of the supervisor: one of its fields is set.
type request struct {
	Hello  *helloRequest  `json:",omitempty"`
	Spawn  *spawnRequest  `json:",omitempty"`
	Signal *signalRequest `json:",omitempty"`
	Stop   *stopRequest   `json:",omitempty"`
}

// helloRequest comes first. Its descriptors are held open until the supervisor ends.
type helloRequest struct {
	Root, Dir   string
	OrphanGrace time.Duration
}

// spawnRequest starts a process. Its descriptors are the process's own from 3 on, followed by Stdout and Stderr when those are passed.
type spawnRequest struct {
	ID             uint64 // chosen by the run
	Path           string
	Args, Env      []string
	Dir, Log       string
	Stdout, Stderr bool // passed as descriptors
	Nice           int
}

type signalRequest struct {
	ID     uint64 // of the process
	Call   uint64 // of the request
	Signal syscall.Signal
	Group  bool
}

type stopRequest struct{ Grace time.Duration }

// event is what the supervisor tells: one of its fields is set.
type event struct {
	Ready    *readyEvent    `json:",omitempty"` // answers hello
	Spawned  *spawnedEvent  `json:",omitempty"` // answers spawn
	Signaled *signaledEvent `json:",omitempty"` // answers signal
	Exited   *exitedEvent   `json:",omitempty"`
	Stopped  *stoppedEvent  `json:",omitempty"` // the last one
}

type readyEvent struct{ Error string }

type spawnedEvent struct {
	ID    uint64
	PID   int
	Error *spawnError `json:",omitempty"`
}

// spawnError keeps the error number, so that errors.Is works on the run's side.
type spawnError struct {
	Op, Path string
	Errno    syscall.Errno
}

func (e *spawnError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Errno) }
func (e *spawnError) Unwrap() error { return e.Errno }

type signaledEvent struct {
	Call  uint64
	Errno syscall.Errno // ESRCH: the process has ended
}

type exitedEvent struct {
	ID     uint64
	Status ExitStatus
}

type stoppedEvent struct {
	Error string // what could not be ended or removed
}

// The limits of one message: what a peer can make the other allocate, and the kernel's SCM_MAX_FD.
const (
	maxMessage     = 16 << 20
	maxDescriptors = 253
)

// link carries messages: a length (uint32, little endian) with the descriptors attached to its bytes, then as much JSON.
// One goroutine receives; any may send.
type link struct {
	conn *net.UnixConn
	mu   sync.Mutex
}

func newLink(f *os.File) (*link, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("using the supervisor's socket: %w", err)
	}
	return &link{conn: conn.(*net.UnixConn)}, nil
}

func (l *link) send(message any, fds ...int) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	if len(body) > maxMessage {
		return fmt.Errorf("message of %d bytes: at most %d", len(body), maxMessage)
	}
	if len(fds) > maxDescriptors {
		return fmt.Errorf("message with %d descriptors: at most %d", len(fds), maxDescriptors)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, _, err := l.conn.WriteMsgUnix(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), rights, nil); err != nil {
		return fmt.Errorf("sending a message: %w", err)
	}
	if _, err := l.conn.Write(body); err != nil {
		return fmt.Errorf("sending a message: %w", err)
	}
	return nil
}

// receive reads the next message. The descriptors, which close on exec, are the caller's, also when there is an error. io.EOF says that the peer is gone.
func (l *link) receive(message any) (fds []int, err error) {
	var head [4]byte
	rights := make([]byte, syscall.CmsgSpace(4*maxDescriptors))
	n, rn, _, _, err := l.conn.ReadMsgUnix(head[:], rights)
	if fds, rerr := parseRights(rights[:rn]); rerr != nil {
		return fds, rerr
	} else if err != nil {
		return fds, err
	} else if _, err := io.ReadFull(l.conn, head[n:]); err != nil {
		return fds, err
	} else {
		return fds, l.receiveBody(binary.LittleEndian.Uint32(head[:]), message)
	}
}

func (l *link) receiveBody(size uint32, message any) error {
	if size > maxMessage {
		return fmt.Errorf("message of %d bytes: at most %d", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(l.conn, body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, message); err != nil {
		return fmt.Errorf("decoding a message: %w", err)
	}
	return nil
}

func parseRights(b []byte) (fds []int, err error) {
	messages, err := syscall.ParseSocketControlMessage(b)
	if err != nil {
		return nil, fmt.Errorf("reading descriptors: %w", err)
	}
	for _, m := range messages {
		got, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return fds, fmt.Errorf("reading descriptors: %w", err)
		}
		fds = append(fds, got...)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd) // on Linux it is set already, atomically
	}
	return fds, nil
}

func (l *link) close() { l.conn.Close() }

// withDescriptors calls f with the descriptors of the files, which stay open meanwhile. Unlike (*os.File).Fd it does not turn them to blocking mode, which
// would slow the sockets among them in this process too.
func withDescriptors(files []*os.File, f func(fds []int) error) error {
	return collect(files, make([]int, 0, len(files)), f)
}

func collect(files []*os.File, fds []int, f func([]int) error) error {
	if len(files) == 0 {
		return f(fds)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return fmt.Errorf("passing %s: %w", files[0].Name(), err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = collect(files[1:], append(fds, int(fd)), f) })
	return errors.Join(err, inner)
}
