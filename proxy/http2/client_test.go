package http2

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/proxy/socket"
)

// hostile is an upstream that may send whatever it likes, and a client of it.
type hostile struct {
	*peer
	client *Client
	ears   ears
}

// newHostile connects a client with an upstream by a pipe. The upstream has sent its settings.
func newHostile(t *testing.T, o ClientOptions, all ...http2.Setting) *hostile {
	near, far := net.Pipe()
	h := &hostile{}
	o.Count = h.ears.tell
	h.client = NewClient(socket.New(near), o)
	preface := make([]byte, len(http2.ClientPreface))
	_, err := io.ReadFull(far, preface)
	require.NoError(t, err)
	require.Equal(t, http2.ClientPreface, string(preface))
	h.peer = newPeer(t, far, false)
	t.Cleanup(func() { h.client.Close() })
	require.NoError(t, h.to.WriteSettings(all...))
	require.NoError(t, h.to.WriteSettingsAck())
	synctest.Wait()
	return h
}

// request opens a stream and writes a request to it, which may have to wait; the channel tells what became of that.
func (h *hostile) request(text string) (*Stream, <-chan error) {
	st, err := h.client.Open()
	require.NoError(h.t, err)
	h.t.Cleanup(func() { st.Close() })
	written := make(chan error, 1)
	go func() {
		_, err := st.Write([]byte(text))
		written <- err
	}()
	synctest.Wait()
	return st, written
}

const (
	aGet  = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	aPost = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
)

// data is the payload that arrived on a stream, and whether it has ended.
func (p *peer) data(id uint32) (payload []byte, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.all {
		if f.StreamID == id && f.Type == http2.FrameData {
			payload, ended = append(payload, f.payload...), f.Flags.Has(http2.FlagDataEndStream)
		}
	}
	return payload, ended
}

// Windows of the stream and of the connection are kept, whatever the upstream makes of them in the midst of a body; all of the body arrives.
func TestClientKeepsWindows(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		h := newHostile(t, ClientOptions{}, window(10))
		body := strings.Repeat("0123456789", 10_000)
		_, written := h.request(aPost + body)
		sees := func(n int) {
			t.Helper()
			synctest.Wait()
			got, _ := h.data(1)
			require.Len(t, got, n)
		}
		sees(10)
		require.NoError(t, h.to.WriteWindowUpdate(1, 5))
		sees(15)
		require.NoError(t, h.to.WriteSettings(window(100))) // 90 more for all streams
		sees(105)
		require.NoError(t, h.to.WriteSettings(window(0))) // 100 too many were sent
		require.NoError(t, h.to.WriteWindowUpdate(1, 100))
		sees(105)
		require.NoError(t, h.to.WriteWindowUpdate(1, 1))
		sees(106)
		require.NoError(t, h.to.WriteWindowUpdate(1, 1<<20))
		sees(initialWindow) // the connection's
		require.NoError(t, h.to.WriteWindowUpdate(0, 1<<20))
		require.NoError(t, <-written)
		sees(len(body))
		got, ended := h.data(1)
		require.True(t, ended)
		require.Equal(t, body, string(got))
	})
}

// A GOAWAY refuses what the upstream has not processed, and that can be sent elsewhere; what it has goes on, and the connection ends behind it.
func TestClientObeysGoAway(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		h := newHostile(t, ClientOptions{})
		first, _ := h.request(aGet)
		second, _ := h.request(aGet)
		unsent, err := h.client.Open()
		require.NoError(t, err)
		require.NoError(t, h.to.WriteGoAway(1, http2.ErrCodeNo, nil))
		synctest.Wait()
		_, err = second.Read(make([]byte, 1))
		require.ErrorIs(t, err, ErrRefused)
		_, err = unsent.Write([]byte(aGet))
		require.ErrorIs(t, err, ErrRefused)
		_, err = h.client.Open()
		require.ErrorIs(t, err, ErrGoingAway)
		require.False(t, h.client.Usable())
		require.NoError(t, unsent.Close())
		require.NoError(t, second.Close())
		h.headers(1, true, ":status", "200")
		answer, err := io.ReadAll(first)
		require.NoError(t, err)
		require.Contains(t, string(answer), "HTTP/1.1 200 OK\r\n")
		require.NoError(t, first.Close())
		<-h.client.Done()
		require.Empty(t, h.ears.heard())
	})
}

// A stream that the upstream resets fails alone, and says whether its request was processed.
func TestClientTellsResets(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		h := newHostile(t, ClientOptions{})
		for n, code := range []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeInternal, http2.ErrCodeNo} {
			st, _ := h.request(aGet)
			require.NoError(t, h.to.WriteRSTStream(stream(n), code))
			_, err := st.Read(make([]byte, 1))
			if code == http2.ErrCodeRefusedStream {
				require.ErrorIs(t, err, ErrRefused)
			} else {
				require.ErrorIs(t, err, ErrReset)
				require.Equal(t, &ResetError{Code: code}, err)
			}
		}
		require.True(t, h.client.Usable())
		require.Zero(t, h.client.Active())
	})
}

// The upstream's limits hold from when they come.
func TestClientObeysSettings(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		h := newHostile(t, ClientOptions{}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
		first, _ := h.request("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n")
		h.request("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n")
		_, err := h.client.Open()
		require.ErrorIs(t, err, ErrFull)
		require.NoError(t, h.to.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}))
		synctest.Wait()
		require.NoError(t, first.Close()) // which resets it
		_, err = h.client.Open()
		require.ErrorIs(t, err, ErrFull, "there is one still, and one is allowed now")
		h.headers(3, true, ":status", "204")
		synctest.Wait()
		h.request("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n")
		f, found := h.await(func(f frame) bool { return f.StreamID == 5 })
		require.True(t, found)
		dec := hpack.NewDecoder(0, nil)
		_, err = dec.DecodeFull(f.payload)
		require.NoError(t, err, "it uses a table that the upstream does not have")
	})
}

// An answer that breaks HTTP costs its own stream, and no other.
func TestClientRefusesAnswers(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		send   func(p *peer)
		code   http2.ErrCode
		reason string
	}{
		"too large": {func(p *peer) {
			long := strings.Repeat("x", 12<<10)
			_ = p.to.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status", "200", "a", long)})
			_ = p.to.WriteContinuation(1, false, p.block("b", long))
			_ = p.to.WriteContinuation(1, true, p.block("c", long))
		}, http2.ErrCodeProtocol, ReasonHeaders},
		"many fields": {func(p *peer) {
			all := []string{":status", "200"}
			for i := range 120 {
				all = append(all, fmt.Sprint("x", i), "y")
			}
			p.headers(1, true, all...)
		}, http2.ErrCodeProtocol, ReasonHeaders},
		"a bomb": {func(p *peer) {
			_ = p.to.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bomb(p), EndHeaders: true})
		}, http2.ErrCodeProtocol, ReasonHeaders},
		"no status":            {func(p *peer) { p.headers(1, true, "x", "y") }, http2.ErrCodeProtocol, ReasonMalformed},
		"101":                  {func(p *peer) { p.headers(1, false, ":status", "101") }, http2.ErrCodeProtocol, ReasonMalformed},
		"a status of four":     {func(p *peer) { p.headers(1, true, ":status", "2000") }, http2.ErrCodeProtocol, ReasonMalformed},
		"an interim that ends": {func(p *peer) { p.headers(1, true, ":status", "103") }, http2.ErrCodeProtocol, ReasonMalformed},
		"a name in capitals":   {func(p *peer) { p.headers(1, true, ":status", "200", "X", "y") }, http2.ErrCodeProtocol, ReasonMalformed},
		"a line in a value":    {func(p *peer) { p.headers(1, true, ":status", "200", "x", "y\r\nz: a") }, http2.ErrCodeProtocol, ReasonMalformed},
		"transfer-encoding":    {func(p *peer) { p.headers(1, false, ":status", "200", "transfer-encoding", "chunked") }, http2.ErrCodeProtocol, ReasonMalformed},
		"two lengths":          {func(p *peer) { p.headers(1, false, ":status", "200", "content-length", "1", "content-length", "1") }, http2.ErrCodeProtocol, ReasonMalformed},
		"DATA without a head":  {func(p *peer) { _ = p.to.WriteData(1, true, []byte("x")) }, http2.ErrCodeProtocol, ReasonMalformed},
		"longer than its length": {func(p *peer) {
			p.headers(1, false, ":status", "200", "content-length", "1")
			_ = p.to.WriteData(1, true, []byte("xy"))
		}, http2.ErrCodeProtocol, ReasonMalformed},
		"shorter than its length": {func(p *peer) {
			p.headers(1, false, ":status", "200", "content-length", "3")
			_ = p.to.WriteData(1, true, []byte("xy"))
		}, http2.ErrCodeProtocol, ReasonMalformed},
		"trailers that do not end": {func(p *peer) {
			p.headers(1, false, ":status", "200")
			p.headers(1, false, "x", "y")
		}, http2.ErrCodeProtocol, ReasonMalformed},
		"interims without end": {func(p *peer) {
			for range 500 {
				p.headers(1, false, ":status", "103", "link", strings.Repeat("x", 500))
			}
		}, http2.ErrCodeEnhanceYourCalm, ReasonInterim},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				h := newHostile(t, ClientOptions{})
				bad, _ := h.request(aGet)
				good, _ := h.request(aGet)
				x.send(h.peer)
				reset, found := h.await(kindOf(http2.FrameRSTStream))
				require.True(t, found)
				require.EqualValues(t, 1, reset.StreamID)
				require.Equal(t, x.code, reset.code())
				_, err := io.ReadAll(bad)
				require.ErrorIs(t, err, ErrReset)
				require.Equal(t, map[string]int{x.reason: 1}, h.ears.heard())
				require.Less(t, held(&h.client.conn), mostHeld)
				h.headers(3, true, ":status", "200")
				answer, err := io.ReadAll(good)
				require.NoError(t, err)
				require.True(t, bytes.HasPrefix(answer, []byte("HTTP/1.1 200 OK\r\n")))
			})
		})
	}
}

// An upstream that breaks HTTP/2, or floods, or stops in the midst of a frame, loses the connection, and it is counted why; those who wait for answers learn that it has ended.
func TestClientLeavesUpstreams(t *testing.T) {
	t.Parallel()
	again := func(n int, send func(p *peer)) func(*peer) {
		return func(p *peer) {
			for i := 0; i < n && !p.gone; i++ {
				send(p)
			}
		}
	}
	for name, x := range map[string]struct {
		send   func(p *peer)
		code   http2.ErrCode
		reason string
	}{
		"PUSH_PROMISE": {func(p *peer) {
			_ = p.to.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.block(":method", "GET"), EndHeaders: true})
		}, http2.ErrCodeProtocol, ReasonProtocol},
		"push offered":                {func(p *peer) { _ = p.to.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) }, http2.ErrCodeProtocol, ReasonProtocol},
		"DATA on an idle stream":      {func(p *peer) { _ = p.to.WriteData(99, true, nil) }, http2.ErrCodeProtocol, ReasonProtocol},
		"HEADERS on an idle stream":   {func(p *peer) { p.headers(99, true, ":status", "200") }, http2.ErrCodeProtocol, ReasonProtocol},
		"HEADERS on a pushed stream":  {func(p *peer) { p.headers(2, true, ":status", "200") }, http2.ErrCodeProtocol, ReasonProtocol},
		"a stream's window too large": {func(p *peer) { _ = p.to.WriteWindowUpdate(1, 1<<31-1) }, http2.ErrCodeFlowControl, ReasonFlowControl},
		"the connection's too":        {func(p *peer) { _ = p.to.WriteWindowUpdate(0, 1<<31-1) }, http2.ErrCodeFlowControl, ReasonFlowControl},
		"all windows too large": {func(p *peer) {
			_ = p.to.WriteWindowUpdate(1, 1<<30)
			_ = p.to.WriteSettings(window(1<<31 - 1))
		}, http2.ErrCodeFlowControl, ReasonFlowControl},
		"more than the window": {func(p *peer) {
			p.headers(1, false, ":status", "200")
			again(5, func(p *peer) { _ = p.to.WriteData(1, false, make([]byte, 16<<10)) })(p)
		}, http2.ErrCodeFlowControl, ReasonFlowControl},
		"SETTINGS": {again(200, func(p *peer) { _ = p.to.WriteSettings() }), http2.ErrCodeEnhanceYourCalm, ReasonSettingsFlood},
		"PING":     {again(500, func(p *peer) { _ = p.to.WritePing(false, [8]byte{}) }), http2.ErrCodeEnhanceYourCalm, ReasonPingFlood},
		"empty DATA": {func(p *peer) {
			p.headers(1, false, ":status", "200")
			again(200, func(p *peer) { _ = p.to.WriteData(1, false, nil) })(p)
		}, http2.ErrCodeEnhanceYourCalm, ReasonEmptyFrames},
		"CONTINUATION":        {func(p *peer) { open(p, 1); again(100, func(p *peer) { _ = p.to.WriteContinuation(1, false, nil) })(p) }, http2.ErrCodeEnhanceYourCalm, ReasonContinuation},
		"headers without end": {func(p *peer) { open(p, 1) }, http2.ErrCodeEnhanceYourCalm, ReasonHeaderTimeout},
		"a part of a frame":   {func(p *peer) { p.raw(0, 0, 8, byte(http2.FramePing), 0) }, http2.ErrCodeEnhanceYourCalm, ReasonHeaderTimeout},
		"compression mistaken": {func(p *peer) {
			_ = p.to.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff}, EndHeaders: true})
		}, http2.ErrCodeCompression, ReasonCompression},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				h := newHostile(t, ClientOptions{})
				st, _ := h.request(aGet)
				x.send(h.peer)
				code, told := h.awaitEnd()
				<-h.client.Done()
				require.True(t, told)
				require.Equal(t, x.code, code)
				require.Equal(t, map[string]int{x.reason: 1}, h.ears.heard())
				_, err := io.ReadAll(st)
				require.Error(t, err)
				_, err = h.client.Open()
				require.ErrorIs(t, err, ErrGoingAway)
			})
		})
	}
}

// An upstream that is silent is asked whether it is there, and left when it does not say so.
func TestClientAsksSilentUpstreams(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		began := time.Now()
		h := newHostile(t, ClientOptions{Ping: 5 * time.Second, PingTimeout: time.Second})
		ping := func() frame {
			f, found := h.await(kindOf(http2.FramePing))
			require.True(t, found)
			return f
		}
		require.NoError(t, h.to.WritePing(true, [8]byte(ping().payload)))
		require.Equal(t, 5*time.Second, time.Since(began).Truncate(time.Millisecond))
		<-h.client.Done()
		require.Equal(t, 11*time.Second, time.Since(began).Truncate(time.Millisecond))
		require.Equal(t, map[string]int{ReasonPingTimeout: 1}, h.ears.heard())
	})
}

// An upstream that gives no window to a request's body loses that request; when it is the connection's window, it gets no more of them.
func TestClientWithStalledUpstreams(t *testing.T) {
	t.Parallel()
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint(all), func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				size := uint32(10)
				if all {
					size = 1 << 20
				}
				h := newHostile(t, ClientOptions{Stall: stall}, window(size))
				_, written := h.request(aPost + strings.Repeat("x", 100_000))
				require.ErrorIs(t, <-written, ErrReset)
				require.Equal(t, map[string]int{ReasonStalled: 1}, h.ears.heard())
				require.Equal(t, !all, h.client.Usable())
			})
		})
	}
}
