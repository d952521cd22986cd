package http2

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"meshtest.dev/meshtest/internal/testbubble"
)

// lengthy answers whole requests with 256 KiB.
var lengthy = answering(func(exchange) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 256<<10, strings.Repeat("x", 256<<10))
}).Serve

// window is how much may be sent on each stream.
func window(n uint32) http2.Setting {
	return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n}
}

// hold opens a stream that does not end, so that the connection is not idle.
func hold(p *peer) {
	p.greet()
	p.ask(1, "POST", false)
}

// many asks for as much as a caller may.
func many(p *peer) {
	for n := range defaultMaxStreams {
		p.ask(stream(n), "GET", true)
	}
}

// few asks for some answers at once.
func few(p *peer) {
	for n := range fewWaiting {
		p.ask(stream(n), "GET", true)
	}
}

// drip does something every now and then.
func drip(p *peer, something func()) {
	for !p.gone {
		time.Sleep(300 * time.Millisecond)
		something()
	}
}

func open(p *peer, id uint32) {
	_ = p.to.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(":method", "GET")})
}

const (
	header   = 2 * time.Second
	settings = 5 * time.Second
	stall    = 10 * time.Second
	patience = 45 * time.Second
	idle     = 60 * time.Second
)

var slow = []struct {
	name   string
	attack func(p *peer)
	after  time.Duration
	reason string
	code   http2.ErrCode
	deaf   bool
}{
	{"no preface", func(*peer) {}, settings, ReasonSettingsTimeout, http2.ErrCodeSettingsTimeout, false},
	{"a preface and no acknowledgement", func(p *peer) {
		p.raw([]byte(http2.ClientPreface)...)
		_ = p.to.WriteSettings()
		p.ask(1, "POST", false)
	}, settings, ReasonSettingsTimeout, http2.ErrCodeSettingsTimeout, false},
	{"a part of a frame's header", func(p *peer) {
		hold(p)
		p.raw(0, 0, 8, byte(http2.FramePing))
	}, header, ReasonHeaderTimeout, http2.ErrCodeEnhanceYourCalm, false},
	{"a part of a PING", func(p *peer) {
		hold(p)
		p.raw(0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0, 1, 2)
	}, header, ReasonHeaderTimeout, http2.ErrCodeEnhanceYourCalm, false},
	{"a part of HEADERS", func(p *peer) {
		hold(p)
		p.raw(0, 0, 9, byte(http2.FrameHeaders), 4, 0, 0, 0, 3, 0x82)
	}, header, ReasonHeaderTimeout, http2.ErrCodeEnhanceYourCalm, false},
	{"HEADERS without their CONTINUATION", func(p *peer) { hold(p); open(p, 3) }, header, ReasonHeaderTimeout, http2.ErrCodeEnhanceYourCalm, false},
	{"a CONTINUATION now and then", func(p *peer) {
		hold(p)
		open(p, 3)
		drip(p, func() { _ = p.to.WriteContinuation(3, false, p.block("x", "y")) })
	}, header, ReasonHeaderTimeout, http2.ErrCodeEnhanceYourCalm, false},
	{"a frame byte by byte", func(p *peer) {
		hold(p)
		p.raw(0, 0, 100, byte(http2.FrameSettings), 0, 0, 0, 0, 0)
		drip(p, func() { p.raw(0) })
	}, header, ReasonHeaderTimeout, http2.ErrCodeEnhanceYourCalm, false},
	{"nothing", func(p *peer) { p.greet() }, idle, ReasonIdle, http2.ErrCodeNo, false},
	{"PINGs and nothing else", func(p *peer) {
		p.greet()
		drip(p, func() { _ = p.to.WritePing(false, [8]byte{}) })
	}, idle, ReasonIdle, http2.ErrCodeNo, false},
	{"no window for any stream", func(p *peer) { p.greet(window(0)); many(p) }, stall, ReasonSlowRead, http2.ErrCodeEnhanceYourCalm, false},
	{"no window for the connection", func(p *peer) { p.greet(window(1 << 30)); many(p) }, stall, ReasonSlowRead, http2.ErrCodeEnhanceYourCalm, false},
	{"nobody reads", func(p *peer) { p.greet(window(1 << 30)); many(p) }, stall, ReasonSlowRead, http2.ErrCodeNo, true},
	{"no window for any of a few streams", func(p *peer) { p.greet(window(0)); few(p) }, patience, ReasonSlowRead, http2.ErrCodeEnhanceYourCalm, false},
	{"no window for the connection of a few streams", func(p *peer) { p.greet(window(1 << 30)); few(p) }, patience, ReasonSlowRead, http2.ErrCodeEnhanceYourCalm, false},
	{"nobody reads a few answers", func(p *peer) { p.greet(window(1 << 30)); few(p) }, patience, ReasonSlowRead, http2.ErrCodeNo, true},
	{"no window for a few streams, and then for many", func(p *peer) {
		p.greet(window(0))
		few(p)
		time.Sleep(stall + stall/2)
		p.ask(stream(fewWaiting), "GET", true)
	}, stall + stall/2, ReasonSlowRead, http2.ErrCodeEnhanceYourCalm, false},
	{"nobody reads a few answers, and then many", func(p *peer) {
		p.greet(window(1 << 30))
		few(p)
		time.Sleep(stall + stall/2)
		p.ask(stream(fewWaiting), "GET", true)
	}, stall + stall/2, ReasonSlowRead, http2.ErrCodeNo, true},
	{"nobody reads, and PINGs ask for more", func(p *peer) {
		hold(p)
		for range 2000 {
			_ = p.to.WriteData(1, false, []byte("x"))
			_ = p.to.WritePing(false, [8]byte{})
		}
	}, 0, ReasonUnread, http2.ErrCodeNo, true},
}

// Who holds a connection by being slow loses it after its time, and it is counted why; until then little is held.
func TestSlowPeers(t *testing.T) {
	t.Parallel()
	for _, x := range slow {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				began := time.Now()
				a := newAttacked(t, x.deaf, ServerOptions{Serve: lengthy, Header: header, Settings: settings, Stall: stall, Patience: patience, Idle: idle})
				attacked := make(chan struct{})
				go func() { defer close(attacked); x.attack(a.peer) }()
				synctest.Wait()
				peak := held(&a.server.conn)
				<-a.ended
				took := time.Since(began)
				<-attacked
				require.GreaterOrEqual(t, took, x.after)
				require.LessOrEqual(t, took, x.after+lingerTime+time.Millisecond)
				require.Equal(t, map[string]int{x.reason: 1}, a.ears.heard())
				require.Less(t, peak, mostHeld)
				if !x.deaf {
					code, told := a.awaitEnd()
					require.True(t, told)
					require.Equal(t, x.code, code)
				}
			})
		})
	}
}

// A stream that gets no window while others get some is reset alone.
func TestOneStalledStream(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a := newAttacked(t, false, ServerOptions{Serve: lengthy, Stall: stall})
		a.greet(window(0))
		a.ask(1, "GET", true)
		a.ask(3, "GET", true)
		time.Sleep(stall / 2)
		require.NoError(t, a.to.WriteWindowUpdate(3, 256<<10))
		require.NoError(t, a.to.WriteWindowUpdate(0, 256<<10))
		reset, found := a.await(kindOf(http2.FrameRSTStream))
		require.True(t, found)
		require.EqualValues(t, 1, reset.StreamID)
		require.Equal(t, http2.ErrCodeCancel, reset.code())
		last, found := a.await(func(f frame) bool { return f.StreamID == 3 && f.Flags.Has(http2.FlagDataEndStream) })
		require.True(t, found)
		require.Equal(t, http2.FrameData, last.Type)
		require.Equal(t, map[string]int{ReasonStalled: 1}, a.ears.heard())
		_, told := a.goneAway()
		require.False(t, told)
	})
}

// A connection that has carried as many requests as it may ends in good order, and nobody is refused.
func TestEnoughRequests(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		a := newAttacked(t, false, ServerOptions{Serve: answering(func(exchange) string { return plain("hello") }).Serve, MaxRequests: 3})
		a.greet()
		for n := range 3 {
			a.ask(stream(n), "GET", true)
		}
		ping, found := a.await(func(f frame) bool { return f.Type == http2.FramePing && !f.Flags.Has(http2.FlagPingAck) })
		require.True(t, found)
		a.ask(stream(3), "GET", true) // on its way before the caller knew
		require.NoError(t, a.to.WritePing(true, [8]byte(ping.payload)))
		code, told := a.awaitEnd()
		require.True(t, told)
		require.Equal(t, http2.ErrCodeNo, code)
		answered := 0
		for _, f := range a.all {
			if f.Flags.Has(http2.FlagDataEndStream) && f.Type == http2.FrameData {
				answered++
			}
		}
		require.Equal(t, 4, answered)
		require.Equal(t, map[string]int{ReasonRequests: 1}, a.ears.heard())
	})
}
