package ratelimit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// MaxKeys is how many buckets a limit remembers at most. Keys are spread over shards by their hash, so that the least recently used one of its shard has to go when that is full.
const MaxKeys = numShards * keysPerShard

const (
	numShards    = 16
	keysPerShard = 512
)

// buckets are the buckets of one limit, by the hash of their keys.
type buckets struct {
	rate   rate
	seed   maphash.Seed // nobody outside can make two keys meet
	shards [numShards]shard
}

// shard is a part of the buckets, with a lock of its own.
type shard struct {
	sync.Mutex
	places  map[uint64]int32 // in entries, by key
	entries []entry          // the first one is the anchor of a ring: newer to the least, older to the most recently used one
	_       [24]byte         // shards that are locked at the same time share no cache line
}

// entry is a bucket in the order of use.
type entry struct {
	bucket
	key          uint64
	newer, older int32
}

func newBuckets(r rate) *buckets { return &buckets{rate: r, seed: maphash.MakeSeed()} }

// shard is where a key belongs.
func (b *buckets) shard(key uint64) *shard { return &b.shards[key%numShards] }

// taken is what became of a token.
type taken struct {
	ok        bool
	remaining int
	next      time.Duration
}

// take takes a token out of a key's bucket, if there is one. Evictions are counted.
func (b *buckets) take(key uint64, now time.Duration, evictions *atomic.Uint64) taken {
	s := b.shard(key)
	s.Lock()
	defer s.Unlock()
	e := s.use(key, &b.rate, now, evictions)
	ok := e.take(&b.rate)
	return taken{ok, e.remaining(&b.rate), e.next(&b.rate)}
}

// giveBack undoes a take. A key that was forgotten meanwhile has lost nothing.
func (b *buckets) giveBack(key uint64) {
	s := b.shard(key)
	s.Lock()
	defer s.Unlock()
	if place, ok := s.places[key]; ok {
		s.entries[place].giveBack(&b.rate)
	}
}

// keys counts the buckets that are remembered.
func (b *buckets) keys() int {
	n := 0
	for i := range b.shards {
		s := &b.shards[i]
		s.Lock()
		n += len(s.places)
		s.Unlock()
	}
	return n
}

// use finds or makes the bucket of a key, brings it to now, and makes it the most recently used one.
func (s *shard) use(key uint64, r *rate, now time.Duration, evictions *atomic.Uint64) *entry {
	place, known := s.places[key]
	switch {
	case known:
		s.unlink(place)
	case len(s.places) < keysPerShard:
		place = s.grow()
	default:
		place = s.oldest(r, now, evictions)
	}
	e := &s.entries[place]
	if known {
		e.refill(r, now)
	} else {
		e.key, e.bucket = key, bucket{level: r.Full, at: now}
		s.places[key] = place
	}
	s.link(place)
	return e
}

// grow makes room for one more entry.
func (s *shard) grow() int32 {
	if s.places == nil {
		s.places, s.entries = map[uint64]int32{}, make([]entry, 1, 2)
	}
	s.entries = append(s.entries, entry{})
	return int32(len(s.entries) - 1)
}

// oldest takes the least recently used entry out of the shard.
func (s *shard) oldest(r *rate, now time.Duration, evictions *atomic.Uint64) int32 {
	place := s.entries[0].newer
	e := &s.entries[place]
	if e.refill(r, now); e.level < r.Full {
		evictions.Add(1)
	}
	s.unlink(place)
	delete(s.places, e.key)
	return place
}

// link puts an entry behind the most recently used one.
func (s *shard) link(place int32) {
	last := s.entries[0].older
	s.entries[place].older, s.entries[place].newer = last, 0
	s.entries[last].newer, s.entries[0].older = place, place
}

func (s *shard) unlink(place int32) {
	e := &s.entries[place]
	s.entries[e.older].newer, s.entries[e.newer].older = e.newer, e.older
}
