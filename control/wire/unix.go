package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// Dial opens a connection to the other side.
type Dial func(context.Context) (net.Conn, error)

// Unix dials a Unix socket, and hangs up on a listener that is another user's.
func Unix(path string) Dial {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		if err := samePeer(conn); err != nil {
			return nil, errors.Join(fmt.Errorf("dialing %s: %w", path, err), conn.Close())
		}
		return conn, nil
	}
}

// maxUnixPath is the longest path of a socket that Linux and the BSDs all take, in bytes.
const maxUnixPath = 103

// Listen listens on a new Unix socket that only this user may connect to: by the mode of the file, and by the credentials of each peer, which the kernel vouches
// for. A socket that nobody listens on any more is replaced. Closing the listener removes the file.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxUnixPath {
		return nil, fmt.Errorf("listening on %s: a socket's path has at most %d bytes, this one %d", path, maxUnixPath, len(path))
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return SameUser(listener), nil
}

// removeStale removes a socket that refuses connections. One that answers is left, so that listening there fails.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		return errors.Join(errors.New("somebody listens there already"), conn.Close())
	}
	return os.Remove(path)
}

// SameUser wraps a listener of Unix sockets so that it accepts only connections from processes of this process's own user.
func SameUser(l net.Listener) net.Listener { return sameUser{l} }

type sameUser struct{ net.Listener }

func (l sameUser) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if samePeer(conn) == nil {
			return conn, nil
		}
		_ = conn.Close() // it is nobody we would answer
	}
}

// samePeer returns nil when the process at the other end belongs to this process's user.
func samePeer(conn net.Conn) error {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("a connection of type %T has no peer credentials", conn)
	}
	uid, err := peerUID(unix)
	if err != nil {
		return fmt.Errorf("asking for the peer's credentials: %w", err)
	}
	return allowUID(uid, os.Geteuid())
}

func allowUID(peer, own int) error {
	if peer != own {
		return fmt.Errorf("the peer is of user %d, not of our user %d", peer, own)
	}
	return nil
}
