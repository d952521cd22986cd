package agent

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"meshtest.dev/meshtest/load"
)

// maxConversations is how many connections are served at once; more are closed at once.
const maxConversations = 256

// A Server sends load for whoever knows its token.
type Server struct {
	// Token is what clients show. It must not be empty.
	Token string
	// Log hears of every load and of every connection that was refused; nil: nobody does.
	Log *slog.Logger

	dial load.DialFunc // of tests: the way to what is loaded
}

// Serve is [Server.Serve] with the default logger.
func Serve(ctx context.Context, l net.Listener, token string) error {
	s := Server{Token: token, Log: slog.Default()}
	return s.Serve(ctx, l)
}

// Serve accepts clients until ctx ends, then gives up every load at once and tells its client so. It closes the listener and returns when nothing is left; it returns nil
// when ctx ended, and otherwise why no more clients can be accepted.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	if s.Token == "" {
		return errors.New("serve load: there is no token, so nobody could be told from anybody")
	}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()

	places := make(chan struct{}, maxConversations)
	for {
		conn, err := accept(ctx, l)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case err != nil:
			return fmt.Errorf("serve load: %w", err)
		}
		select {
		case places <- struct{}{}:
			all.Go(func() {
				s.converse(ctx, conn)
				<-places
			})
		default:
			s.log().Warn("refused a connection: there are too many", "from", conn.RemoteAddr())
			conn.Close()
		}
	}
}

// accept waits until a client comes, also past a lack of file descriptors that passes.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	for {
		conn, err := l.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ECONNABORTED) {
			return conn, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// converse serves one connection to its end.
func (s *Server) converse(ctx context.Context, conn net.Conn) {
	l, epoch := newLink(conn), time.Now()
	defer l.close()
	end := time.AfterFunc(farewell, func() { conn.Close() })
	end.Stop()
	defer end.Stop()
	defer context.AfterFunc(ctx, func() { end.Reset(farewell) })()

	log := s.log().With("from", conn.RemoteAddr())
	stream, err := s.greet(l, epoch)
	switch {
	case err == io.EOF: // a probe
		log.Debug("somebody looked in")
	case err != nil:
		log.Warn("refused a connection", "error", err)
		s.refuse(l, err)
	default:
		s.carry(ctx, l, epoch, stream, log)
	}
}

// greet lets in who knows the token, tells him the time, and learns what he wants sent.
func (s *Server) greet(l *link, epoch time.Time) (load.Stream, error) {
	defer time.AfterFunc(greeting, l.fallSilent).Stop()
	content, err := l.expect(kindHello, maxGreeting)
	if err != nil {
		return load.Stream{}, err
	}
	if err := s.admit(content); err != nil {
		return load.Stream{}, err
	}
	answer, err := json.Marshal(welcome{Version})
	if err != nil {
		return load.Stream{}, err
	}
	if err := l.send(kindWelcome, answer); err != nil {
		return load.Stream{}, err
	}
	for range maxPings {
		k, content, err := l.receive(maxStart)
		switch {
		case err != nil:
			return load.Stream{}, err
		case k == kindStart:
			return readStream(content)
		case k != kindPing:
			return load.Stream{}, fmt.Errorf("%w: %v, where %v belongs", errFrame, k, kindStart)
		}
		if err := l.tell(time.Since(epoch)); err != nil {
			return load.Stream{}, err
		}
	}
	return load.Stream{}, fmt.Errorf("%w: more than %d pings", errFrame, maxPings)
}

func (s *Server) admit(content []byte) error {
	var h hello
	if err := json.Unmarshal(content, &h); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	if major(h.Version) != major(Version) {
		return failure{codeVersion, fmt.Sprintf("the load agent speaks version %s, its client %q: use binaries of the same release", Version, cut(h.Version))}
	}
	want, got := sha256.Sum256([]byte(s.Token)), sha256.Sum256([]byte(h.Token))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return failure{codeToken, ErrToken.Error()}
	}
	return nil
}

func readStream(content []byte) (load.Stream, error) {
	var stream load.Stream
	if err := stream.UnmarshalJSON(content); err != nil {
		return load.Stream{}, failure{codeLoad, err.Error()}
	}
	return stream, nil
}

// refuse says why, to somebody who speaks the protocol.
func (s *Server) refuse(l *link, err error) {
	var f failure
	if !errors.As(err, &f) {
		return
	}
	if l.sendFailure(f) == nil {
		defer time.AfterFunc(farewell, l.fallSilent).Stop()
		l.drain()
	}
}

func (l *link) sendFailure(f failure) error {
	f.Text = cut(f.Text)
	content, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return l.send(kindFailure, content)
}

// drain reads until the client closes. Closing first, with something unread, would reset the connection, and what was just said might never arrive.
func (l *link) drain() {
	for {
		if _, _, err := l.receive(maxGreeting); err != nil {
			return
		}
	}
}
