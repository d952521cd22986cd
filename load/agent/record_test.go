package agent

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/load"
)

// someRecords are in the order in which requests end, which is not the one in which they are sent.
func someRecords(n int) []load.Record {
	r := rand.New(rand.NewPCG(1, 2))
	records := make([]load.Record, n)
	for i := range records {
		seq := uint64(max(i+r.IntN(7)-3, 0))
		intended := time.Duration(seq) * 200 * time.Microsecond
		sent := intended + time.Duration(r.IntN(300_000))
		answered := sent + time.Duration(r.IntN(20_000_000))
		records[i] = load.Record{
			Seq: seq, Intended: intended, Sent: sent, Answered: answered, Done: answered + time.Duration(r.IntN(50_000)), Status: 200, OK: true, BytesIn: 1024,
		}
	}
	return records
}

func pack(records []load.Record) []byte {
	var p packer
	var b []byte
	for _, r := range records {
		b = p.append(b, r)
	}
	return b
}

func unpacked(t *testing.T, b []byte) []load.Record {
	t.Helper()
	var records []load.Record
	require.NoError(t, unpack(b, func(r load.Record) { records = append(records, r) }))
	return records
}

func TestRecordsOverTheWire(t *testing.T) {
	t.Parallel()
	records := append(someRecords(1000),
		load.Record{},
		load.Record{Seq: math.MaxUint64, Intended: math.MaxInt64, Sent: math.MaxInt64, Done: math.MaxInt64, BytesIn: 1 << 62, Status: 999},
		load.Record{Seq: 3, Intended: 5, Sent: 4, Done: 4, Class: load.Other, Error: "sent before its time \xff"},
		load.Record{Seq: 4, Done: 2, Answered: 1, Class: load.Oversize, Status: 404, Error: "", Reconnects: maxConnects},
		load.Record{Seq: 5, OK: true, Status: 503, Captured: map[string]string{"b": "1", "a": "", "": "\x00"}},
	)
	for _, class := range classes[1:] {
		records = append(records, load.Record{Class: class, Error: "because"})
	}
	require.Equal(t, records, unpacked(t, pack(records)))
	require.Empty(t, unpacked(t, nil))
	t.Logf("%.1f bytes for a record", float64(len(pack(records[:1000])))/1000)
}

func TestLongTextsAreCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", maxText)
	got := unpacked(t, pack([]load.Record{{Class: load.Other, Error: long, Captured: map[string]string{"x": long}}}))
	require.Len(t, got[0].Error, maxText)
	require.Equal(t, long[:maxText], got[0].Error)
	require.Equal(t, strings.Repeat("x", 1)+long[:maxText-2], unpacked(t, pack([]load.Record{{Class: load.Other, Error: "x" + long}}))[0].Error, "no half characters")

	captured := map[string]string{}
	for i := range maxCaptured {
		captured[strings.Repeat("n", maxText-1)+string(rune(' '+i))] = long
	}
	worst := pack([]load.Record{{Seq: math.MaxUint64, Class: load.Other, Error: long, Captured: captured}})
	require.Len(t, unpacked(t, worst)[0].Captured, maxCaptured)
	require.Less(t, maxBatch+len(worst), maxFrame, "the longest record beside a full batch fits into a frame")
}

func TestRecordsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		content []byte
		want    string
	}{
		"an unknown flag":       {[]byte{bitClass << 3, 0, 0, 0, 0, 0, 0}, "an unknown flag"},
		"cut off":               {pack(someRecords(1))[:5], "half a number"},
		"no end of a number":    {[]byte{0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}, "half a number"},
		"done before sent":      {pack([]load.Record{{Sent: 5, Done: 4}}), "backwards"},
		"intended before start": {pack([]load.Record{{Intended: -1}}), "backwards"},
		"a sum out of range":    {pack([]load.Record{{Intended: math.MaxInt64}, {Intended: math.MinInt64}}), "backwards"},
		"answered after done":   {pack([]load.Record{{Answered: 5, Done: 4}}), "out of its time"},
		"a good failure":        {pack([]load.Record{{OK: true, Class: load.Reset}}), "a failure that is none"},
		"status":                {pack([]load.Record{{Status: 1000}}), "impossible status"},
		"bytes":                 {pack([]load.Record{{BytesIn: -1}}), "impossible number of bytes"},
		"connections":           {pack([]load.Record{{Reconnects: -1}}), "impossible number of connections"},
		"half a text":           {pack([]load.Record{{Class: load.Other, Error: "because"}})[:10], "half a text"},
		"a length":              {[]byte{bitClass, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0x7f}, "impossible length"},
		"headers":               {[]byte{bitCaptured, 0, 0, 0, 0, 0, 0, 65}, "impossible number of headers"},
		"no headers":            {[]byte{bitCaptured, 0, 0, 0, 0, 0, 0, 0}, "a header twice, or none"},
		"a header twice":        {[]byte{bitCaptured, 0, 0, 0, 0, 0, 0, 2, 1, 'a', 0, 1, 'a', 0}, "a header twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := 0
			err := unpack(tc.content, func(load.Record) { seen++ })
			require.ErrorIs(t, err, errFrame)
			require.ErrorContains(t, err, tc.want)
			require.LessOrEqual(t, seen, 1)
		})
	}
}

// Whatever is read is written the same again.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{})
	f.Add(pack(someRecords(3)))
	f.Add(pack([]load.Record{{Class: load.Other, Error: "because", Reconnects: 2, Captured: map[string]string{"a": "b", "c": ""}}}))
	f.Add([]byte{bitClass << 3, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, content []byte) {
		var records []load.Record
		err := unpack(content, func(r load.Record) { records = append(records, r) })
		if err != nil {
			require.ErrorIs(t, err, errFrame)
		}
		for _, r := range records {
			require.GreaterOrEqual(t, r.Service(), time.Duration(0))
		}
		require.Equal(t, records, unpacked(t, pack(records)))
	})
}

func BenchmarkPack(b *testing.B) {
	records := someRecords(1000)
	var buffer []byte
	var p packer
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			buffer, p = buffer[:0], packer{}
		}
		buffer = p.append(buffer, records[i%1000])
	}
}

func BenchmarkUnpack(b *testing.B) {
	content := pack(someRecords(1000))
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			if err := unpack(content, func(load.Record) {}); err != nil {
				b.Fatal(err)
			}
		}
	}
}
