package load_test

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/load"
)

// far are numbers of hits to compare schedules at, up to what a Duration cannot hold any more.
func far() []uint64 {
	var all []uint64
	for n := range uint64(5_000) {
		all = append(all, n)
	}
	for n := uint64(5_000); n < 1<<40; n *= 3 {
		all = append(all, n, n+1)
	}
	return all
}

func overTheWire(t *testing.T, s load.Stream) load.Stream {
	t.Helper()
	data, err := json.Marshal(s)
	require.NoError(t, err)
	var back load.Stream
	require.NoError(t, json.Unmarshal(data, &back), "%s", data)
	return back
}

func TestSchedulesOverTheWire(t *testing.T) {
	t.Parallel()
	same := func(t *testing.T, want load.Pacer, numbers []uint64) {
		back := overTheWire(t, load.Stream{Name: "users", URL: "http://shop", Pacer: want}).Pacer
		require.Equal(t, want.String(), back.String())
		for _, n := range numbers {
			wantAt, wantOK := want.At(n)
			at, ok := back.At(n)
			require.Equal(t, wantOK, ok, "hit %d", n)
			require.Equal(t, wantAt, at, "hit %d", n)
		}
		for i := range time.Duration(100) {
			require.Equal(t, want.Rate(i*150*time.Millisecond), back.Rate(i*150*time.Millisecond))
			require.Equal(t, want.Hits(i*150*time.Millisecond), back.Hits(i*150*time.Millisecond))
		}
	}
	for name, curve := range curves() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, curve(t), far())
		})
		t.Run(name+", Poisson", func(t *testing.T) {
			t.Parallel()
			used := load.Poisson(curve(t), 1<<63+7)
			used.At(3_000) // what was drawn before makes no difference
			same(t, used, far()[:5_000])
		})
	}
}

// full is a stream with every field that can be sent.
func full(t *testing.T) load.Stream {
	return load.Stream{
		Name: "users", Method: "POST", URL: "https://shop:8443/buy?item=1", Headers: http.Header{"X-Dev-User": {"a", "b"}, "host": {"shop.example"}},
		Body: []byte{0, 1, 255, '\n'}, Pacer: constant(t, 100.1), Duration: 90 * time.Second, Timeout: 3*time.Second + 1, Grace: time.Minute,
		MaxInFlight: 17, MaxBody: 1 << 40, Queue: 9, Expect: []load.StatusRange{{200, 299}, {Min: 404, Max: 404}}, Capture: []string{"x-meshtest-reason"}, Address: "[::1]:80",
	}
}

func TestStreamsOverTheWire(t *testing.T) {
	t.Parallel()
	require.Equal(t, full(t), overTheWire(t, full(t)))
	little := load.Stream{Name: "users", URL: "http://shop", Pacer: constant(t, 1)}
	require.Equal(t, little, overTheWire(t, little))
}

type unknownPacer struct{ load.Pacer }

func TestStreamsThatAreNoData(t *testing.T) {
	t.Parallel()
	s := full(t)
	s.Dial = load.DialUnix("/x")
	_, err := json.Marshal(s)
	require.ErrorContains(t, err, "a way to dial of its own")
	s.Dial, s.Pacer = nil, unknownPacer{s.Pacer}
	_, err = json.Marshal(s)
	require.ErrorContains(t, err, "unknownPacer is not known elsewhere")
	s.Pacer = nil
	_, err = json.Marshal(s)
	require.ErrorContains(t, err, "is not known elsewhere")
}

func TestStreamsThatAreRefused(t *testing.T) {
	t.Parallel()
	const good = `{"name":"users","url":"http://shop","pacer":{"constant":5},"address":"a:1"}`
	require.NoError(t, json.Unmarshal([]byte(good), new(load.Stream)))
	many := strings.Repeat(`"x",`, 64) + `"x"`
	for change, want := range map[[2]string]string{
		{`"a:1"`, `"a:1","dial":1`}:                `unknown field "dial"`,
		{`"constant":5`, `"constant":5,"warp":9`}:  `unknown field "warp"`,
		{`"constant":5`, ``}:                       "0 schedules",
		{`"constant":5`, `"constant":5,"sine":{}`}: "2 schedules",
		{`"constant":5`, `"constant":-5`}:          "rate is -5",
		{`"constant":5`, `"constant":1e9`}:         "want a number from 0 to 1000000",
		{`"constant":5`, `"constant":"5"`}:         "cannot unmarshal",
		{`"constant":5`, `"ramp":{}`}:              "ramp takes 0s",
		{`"constant":5`, `"steps":[]`}:             "no step has a rate",
		{`"constant":5`, `"steps":[{"rate":1,"for":9000000000000000000},{"rate":1,"for":9000000000000000000}]`}: "all together take more than",
		{`"name":"users"`, `"name":""`}:                 `name ""`,
		{`"http://shop"`, `"/shop"`}:                    "absolute http or https",
		{`"a:1"`, `"a"`}:                                "missing port",
		{`"a:1"`, `"a:1","queue":-1`}:                   "negative bound",
		{`"a:1"`, `"a:1","queue":300000`}:               "300000 records in the queue: want at most",
		{`"a:1"`, `"a:1","maxInFlight":70000`}:          "70000 requests in flight: want at most",
		{`"a:1"`, `"a:1","capture":[` + many + `]`}:     "65 captured headers",
		{`"a:1"`, `"a:1","headers":{"x y":["1"]}`}:      "not a header name",
		{`"a:1"`, `"a:1","expect":[{"min":3,"max":2}]`}: "no such range",
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		require.NotEqual(t, good, text)
		require.ErrorContains(t, json.Unmarshal([]byte(text), new(load.Stream)), want, text)
	}
	require.ErrorContains(t, new(load.Stream).UnmarshalJSON([]byte(good+" 1")), "something follows")
}

func TestTheAddressLeadsThere(t *testing.T) {
	t.Parallel()
	s := ten(t)
	s.URL, s.Address = "http://shop", strings.TrimPrefix(raw(t, func(c *net.TCPConn) {
		if r, err := request(c); err == nil && r.Host == "shop" {
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
		}
	}), "http://")
	got, _ := run(t, s)
	require.EqualValues(t, 10, got.OK.Count())
	s.Dial = load.DialTo(s.Address)
	_, err := load.Run(t.Context(), s, nil)
	require.ErrorContains(t, err, "both an address and a way to dial")
}

// Whatever is read can be run, and is written the same again.
func FuzzStream(f *testing.F) {
	for _, text := range []string{
		`{"name":"users","url":"http://shop","pacer":{"constant":5}}`,
		`{"name":"u","url":"http://shop","pacer":{"ramp":{"from":1,"to":0,"over":5000},"poisson":3},"address":"a:1"}`,
		`{"name":"u","url":"http://shop","pacer":{"steps":[{"rate":1,"for":9000000000},{"rate":3}]},"headers":{"a":["b"]},"body":"AAEC"}`,
		`{"name":"u","url":"http://shop","pacer":{"sine":{"mean":3,"amplitude":2,"period":77,"phase":-1}},"expect":[{"min":1,"max":2}]}`,
		`{}`, `null`, `[`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s load.Stream
		if s.UnmarshalJSON(data) != nil {
			return
		}
		require.NoError(t, s.Validate())
		back := overTheWire(t, s)
		for _, n := range []uint64{0, 1, 1000} {
			want, wantOK := s.Pacer.At(n)
			at, ok := back.Pacer.At(n)
			require.Equal(t, wantOK, ok)
			require.Equal(t, want, at)
		}
	})
}
