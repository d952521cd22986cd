package control

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// mailbox hands messages from the core, which must never wait, to one goroutine that sends them. How many can pile up is bounded by the protocol for a sidecar (one update of
// each kind), and by limit for others.
type mailbox[T any] struct {
	limit int

	mu     sync.Mutex
	letter []T
	why    error
	signal chan struct{} // holds a token when there may be something to take
}

func newMailbox[T any](limit int) *mailbox[T] {
	return &mailbox[T]{limit: limit, signal: make(chan struct{}, 1)}
}

// put adds a message, and reports whether there was room.
func (m *mailbox[T]) put(message T) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.letter) >= m.limit {
		return false
	}
	m.letter = append(m.letter, message)
	m.wake()
	return true
}

// close tells the reader to end, with the reason; the first one counts.
func (m *mailbox[T]) close(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.why == nil {
		m.why = why
	}
	m.wake()
}

func (m *mailbox[T]) wake() {
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

// take returns all messages, and the reason to end once there is one.
func (m *mailbox[T]) take() ([]T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.letter
	m.letter = nil
	return taken, m.why
}

// deliver sends what arrives in a mailbox until the stream ends or the mailbox is closed.
func deliver[T any](ctx context.Context, box *mailbox[T], send func(T) error) error {
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-box.signal:
		}
		messages, why := box.take()
		for _, m := range messages {
			if err := send(m); err != nil {
				return err
			}
		}
		if why != nil {
			return closed(why)
		}
	}
}

// closed is what the other side of a closed stream is told.
func closed(why error) error {
	if errors.Is(why, io.EOF) {
		return nil
	}
	if _, ok := status.FromError(why); ok {
		return why
	}
	return status.Error(codes.Aborted, why.Error())
}
