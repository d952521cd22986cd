package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/mesh"
)

func TestMemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	const live = 20 << 20
	for name, tc := range map[string]struct {
		heaps    []uint64 // that each change leaves, a minute apart
		released []int    // by then
	}{
		"little":               {[]uint64{worthwhile - 1, worthwhile - 1}, []int{0, 0}},
		"much":                 {[]uint64{10 * worthwhile}, []int{1}},
		"what is live is kept": {[]uint64{live + worthwhile, live + worthwhile - 1, live + worthwhile}, []int{1, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				heap, releases := uint64(0), 0
				m := newMemory()
				m.heap, m.release = func() uint64 { return heap }, func() { heap, releases = live, releases+1 }
				go m.run(ctx)
				for i, left := range tc.heaps {
					heap = left
					m.note()
					<-time.After(time.Minute)
					synctest.Wait()
					require.Equal(t, tc.released[i], releases)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

// While the configuration goes on changing, nothing is given back.
func TestMemoryIsGivenBackWhenItIsQuiet(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var released []time.Duration
		m := newMemory()
		m.heap, m.release = func() uint64 { return 1 << 30 }, func() { released = append(released, time.Since(begin)) }
		go m.run(ctx)
		for range 10 {
			m.note()
			m.note()
			<-time.After(quiet / 2)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, []time.Duration{9*quiet/2 + quiet}, released)
		m.note()
		synctest.Wait()
		cancel() // while it waits
		synctest.Wait()
		require.Len(t, released, 1)
	})
}

// What traffic needed is given back without a change, but ever more rarely when it is needed again each time.
func TestMemoryOfTrafficIsGivenBack(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		just := false // given back; at the next look, it is needed again
		var released []time.Duration
		m := newMemory()
		m.heap = func() uint64 {
			if just {
				just = false
				return worthwhile
			}
			return 2 * worthwhile
		}
		m.release = func() {
			released = append(released, time.Since(begin))
			just = true
		}
		go m.run(ctx)
		<-time.After(100 * time.Second)
		cancel()
		synctest.Wait()
		require.Equal(t, []time.Duration{2 * time.Second, 6 * time.Second, 14 * time.Second, 30 * time.Second, 62 * time.Second}, released)
	})
}

type refusing struct{ error }

func (r refusing) Apply(mesh.Update) error { return r.error }

// What was refused has been read too.
func TestThriftyNotesEveryUpdate(t *testing.T) {
	t.Parallel()
	m := newMemory()
	wrong := errors.New("wrong")
	require.ErrorIs(t, thrifty{refusing{wrong}, m}.Apply(mesh.Update{}), wrong)
	require.Len(t, m.changed, 1)
	require.ErrorIs(t, thrifty{refusing{wrong}, m}.Apply(mesh.Update{}), wrong)
	require.Len(t, m.changed, 1)
}

// Much that is not in use any more is really given back.
func TestReleaseHeap(t *testing.T) {
	const much = 64 << 20
	waste := make([]byte, much)
	for i := range waste {
		waste[i] = 1
	}
	before := residentHeap()
	require.GreaterOrEqual(t, before, uint64(much))
	waste = nil
	releaseHeap()
	require.Nil(t, waste)
	require.Less(t, residentHeap(), before-much/2)
}
