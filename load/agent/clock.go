package agent

import (
	"encoding/binary"
	"fmt"
	"time"
)

const (
	pings    = 8  // of a client; more would hardly find a shorter round trip
	maxPings = 64 // that an agent answers
)

// An offset is what the agent's clock is ahead of the client's, right to within half a round trip. Both clocks count from the beginning of the conversation.
type offset struct {
	ahead  time.Duration
	within time.Duration
}

// sample is the offset after one exchange: asked and answered are of the client's clock, told is of the agent's.
func sample(asked, told, answered time.Duration) offset {
	half := (answered - asked + 1) / 2
	return offset{ahead: told - asked - half, within: half}
}

// measure asks for the agent's time a few times and keeps the best answer.
func (l *link) measure(since func() time.Duration) (best offset, err error) {
	for i := range pings {
		asked := since()
		if err := l.send(kindPing); err != nil {
			return offset{}, err
		}
		content, err := l.expect(kindPong, maxGreeting)
		if err != nil {
			return offset{}, err
		}
		answered := since()
		if len(content) != 8 {
			return offset{}, fmt.Errorf("%w: a time of %d bytes", errFrame, len(content))
		}
		told := time.Duration(binary.BigEndian.Uint64(content))
		if o := sample(asked, told, answered); i == 0 || o.within < best.within {
			best = o
		}
	}
	return best, nil
}

// tell answers a ping.
func (l *link) tell(now time.Duration) error {
	return l.send(kindPong, binary.BigEndian.AppendUint64(nil, uint64(now)))
}
