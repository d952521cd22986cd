package ratelimit

import (
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

// model is the naive form of a limit with a key: levels as fractions, one for each key, forever.
type model struct {
	rate, size *big.Rat // tokens in a nanosecond; tokens
	level      map[string]*big.Rat
	at         map[string]time.Duration
}

func newModel(m mesh.RateLimit) *model {
	size := m.Burst
	if size == 0 {
		size = m.Requests
	}
	return &model{big.NewRat(int64(m.Requests), int64(m.Per)), big.NewRat(int64(size), 1), map[string]*big.Rat{}, map[string]time.Duration{}}
}

func (m *model) allow(key string, now time.Duration) bool {
	level := m.level[key]
	if level == nil {
		level = new(big.Rat).Set(m.size)
		m.level[key] = level
	} else if passed := now - m.at[key]; passed > 0 {
		level.Add(level, new(big.Rat).Mul(m.rate, big.NewRat(int64(passed), 1)))
		if level.Cmp(m.size) > 0 {
			level.Set(m.size)
		}
	}
	m.at[key] = now
	one := big.NewRat(1, 1)
	if level.Cmp(one) < 0 {
		return false
	}
	level.Sub(level, one)
	return true
}

// question is one request in time.
type question struct {
	at  time.Duration
	key string
}

// agree asks limiter and model the same, and checks the promise over every stretch of time.
func agree(t *testing.T, limit mesh.RateLimit, questions []question) {
	t.Helper()
	l, m := limiter(t, limit), newModel(limit)
	allowed := map[string][]time.Duration{}
	for i, q := range questions {
		v := l.Allow(q.at, ask("/", limit.Header, q.key), port, "")
		require.Equal(t, m.allow(q.key, q.at), !v.Refused, "request %d of %+v at %v", i, limit, q.at)
		if !v.Refused {
			allowed[q.key] = append(allowed[q.key], q.at)
		}
		whole := new(big.Int).Quo(m.level[q.key].Num(), m.level[q.key].Denom())
		require.Equal(t, whole.Int64(), int64(v.Remaining))
		if v.Refused { // Next is the first nanosecond at which there is one
			left := new(big.Rat).Sub(big.NewRat(1, 1), m.level[q.key])
			need := left.Quo(left, m.rate)
			require.LessOrEqual(t, need.Cmp(big.NewRat(int64(v.Next), 1)), 0)
			require.Positive(t, need.Cmp(big.NewRat(int64(v.Next)-1, 1)))
		}
	}
	for _, times := range allowed {
		for i := range times {
			for j := i; j < len(times); j++ {
				bound := new(big.Rat).Mul(m.rate, big.NewRat(int64(times[j]-times[i]), 1))
				bound.Add(bound, m.size)
				require.LessOrEqual(t, big.NewRat(int64(j-i+1), 1).Cmp(bound), 0, "%d requests within %v under %+v", j-i+1, times[j]-times[i], limit)
			}
		}
	}
}

func TestTheModelAgrees(t *testing.T) {
	t.Parallel()
	chance := rand.New(rand.NewPCG(1, 2))
	pers := []time.Duration{7, time.Microsecond, 333 * time.Microsecond, second, 7 * second, time.Minute, time.Hour, 24 * time.Hour}
	for range 300 {
		limit := mesh.RateLimit{Name: "m", Requests: 1 + chance.IntN(50), Per: pers[chance.IntN(len(pers))], Header: "x-key"}
		if chance.IntN(2) == 0 {
			limit.Burst = 1 + chance.IntN(40)
		}
		token := int64(limit.Per)/int64(limit.Requests) + 1
		var questions []question
		now := time.Duration(chance.Int64N(int64(time.Hour)))
		for range 150 {
			switch chance.IntN(10) {
			case 0:
				now += time.Duration(chance.Int64N(20 * token))
			case 1, 2, 3:
				now += time.Duration(chance.Int64N(2 * token))
			}
			questions = append(questions, question{now, strconv.Itoa(chance.IntN(3))})
		}
		agree(t, limit, questions)
	}
}

func FuzzTheModelAgrees(f *testing.F) {
	f.Add(uint16(3), uint64(time.Second), uint16(5), []byte{0, 0, 0, 0, 0xff, 1, 2, 3, 0, 1, 0, 0})
	f.Add(uint16(1), uint64(1), uint16(1), []byte{1, 0, 0, 1, 0, 0, 2, 0, 0})
	f.Add(uint16(60000), uint64(time.Hour)+1, uint16(0), []byte{9, 255, 255, 9, 255, 255, 9, 255, 255})
	f.Fuzz(func(t *testing.T, requests uint16, per uint64, burst uint16, script []byte) {
		limit := mesh.RateLimit{Name: "m", Requests: int(requests), Per: time.Duration(per), Burst: int(burst), Header: "x-key"}
		if _, err := New([]mesh.RateLimit{limit}, nil); err != nil {
			t.Skip(err)
		}
		var questions []question
		now := time.Duration(0)
		for ; len(script) >= 3 && len(questions) < 100; script = script[3:] { // a key and, as a fraction of the time for a token, what has passed
			passed := new(big.Int).Mul(big.NewInt(int64(limit.Per)), big.NewInt(int64(binary.LittleEndian.Uint16(script[1:]))))
			passed.Quo(passed, big.NewInt(int64(limit.Requests)*10000))
			if !passed.IsInt64() || passed.Int64() > int64(1<<62-now) {
				t.Skip("longer than a clock runs")
			}
			now += time.Duration(passed.Int64())
			questions = append(questions, question{now, strconv.Itoa(int(script[0] % 4))})
		}
		agree(t, limit, questions)
	})
}
