package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbubble"
	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/loadtest"
)

func frame(k kind, content string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(1+len(content)))
	return string(append(head, byte(k))) + content
}

func greetings(token string) string { return frame(kindHello, `{"version":"1.0","token":"`+token+`"}`) }

// say sends text to an agent and returns the frames that it answers until it hangs up, and how long that took.
func say(t *testing.T, way func(context.Context) (net.Conn, error), text string) (answers []string, took time.Duration) {
	t.Helper()
	conn, err := way(t.Context())
	require.NoError(t, err)
	began := time.Now()
	var told sync.WaitGroup
	told.Go(func() { _, _ = io.WriteString(conn, text) })
	l := newLink(conn)
	for {
		k, content, err := l.receive(maxFrame)
		if err != nil {
			break
		}
		answers = append(answers, k.String()+" "+string(content))
	}
	took = time.Since(began)
	l.close()
	told.Wait()
	return answers, took
}

// What is not the protocol is not answered, and nothing is sent for whoever does not know the token.
func TestWhoIsRefused(t *testing.T) {
	t.Parallel()
	const start = `{"name":"users","url":"http://shop","pacer":{"constant":5}}`
	welcome := `welcome {"version":"1.0"}`
	for name, tc := range map[string]struct {
		text    string
		answers []string
		after   time.Duration
	}{
		"nothing":                 {"", nil, Silence},
		"half a frame":            {"\x00\x00\x00\x09\x01x", nil, Silence},
		"HTTP":                    {"GET / HTTP/1.1\r\n\r\n", nil, 0},
		"a frame without content": {"\x00\x00\x00\x00", nil, 0},
		"a long greeting":         {frame(kindHello, strings.Repeat("x", maxGreeting)), nil, 0},
		"no JSON":                 {frame(kindHello, "hello"), nil, 0},
		"another beginning":       {frame(kindStart, start), nil, 0},
		"a wrong token":           {greetings(secret + "x"), []string{`failure {"code":"token","text":"the load agent does not accept the token"}`}, farewell},
		"no token":                {greetings(""), []string{`failure {"code":"token","text":"the load agent does not accept the token"}`}, farewell},
		"another version":         {frame(kindHello, `{"version":"2.0","token":7}`), nil, 0},
		"a later version": {frame(kindHello, `{"version":"2.0","secret":"7"}`),
			[]string{`failure {"code":"version","text":"the load agent speaks version 1.0, its client \"2.0\": use binaries of the same release"}`}, farewell},
		"no version":      {frame(kindHello, `{"token":"`+secret+`"}`), []string{`failure {"code":"version","text":"the load agent speaks version 1.0, its client \"\": use binaries of the same release"}`}, farewell},
		"no start":        {greetings(secret), []string{welcome}, Silence},
		"a stop":          {greetings(secret) + frame(kindStop, ""), []string{welcome}, 0},
		"an empty stream": {greetings(secret) + frame(kindStart, ""), []string{welcome, `failure {"code":"load","text":"read a stream: EOF"}`}, farewell},
		"an unknown wish": {greetings(secret) + frame(kindStart, strings.Replace(start, "{", `{"warp":9,`, 1)), []string{welcome, `failure {"code":"load","text":"read a stream: json: unknown field \"warp\""}`}, farewell},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				var shop shop
				way, _ := stand(t, loadtest.Serve(t, &shop))
				answers, took := say(t, way, tc.text)
				require.Equal(t, tc.answers, answers)
				require.Equal(t, tc.after, took)
				require.Zero(t, shop.requests.Load())
			})
		})
	}
}

// Somebody who never ends his greeting is shown out, though he is never silent.
func TestAnEndlessGreeting(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		way, _ := stand(t, nil)
		conn, err := way(t.Context())
		require.NoError(t, err)
		began := time.Now()
		for _, b := range []byte(greetings(strings.Repeat("x", 100))) {
			if _, err = conn.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		require.Error(t, err)
		require.LessOrEqual(t, time.Since(began), greeting+time.Second)

		answers, _ := say(t, way, greetings(secret)+strings.Repeat(frame(kindPing, ""), maxPings+1))
		require.Len(t, answers, 1+maxPings)
	})
}

// A driver that says what it should not is gone, and so is its load.
func TestADriverThatTalks(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		var shop shop
		way, _ := stand(t, loadtest.Serve(t, &shop))
		start, err := users(t, 0).MarshalJSON()
		require.NoError(t, err)
		answers, took := say(t, way, greetings(secret)+frame(kindStart, string(start))+frame(kindBeat, "")+frame(kindHello, ""))
		require.Less(t, took, time.Second)
		require.NotContains(t, strings.Join(answers, ""), "result")
		time.Sleep(time.Hour)
		require.Less(t, shop.requests.Load(), int64(100))
	})
}

func TestTheClientIsRefused(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		way, _ := stand(t, nil)
		_, err := Client{Dial: way, Token: "another"}.Run(t.Context(), users(t, 0), nil)
		require.ErrorIs(t, err, ErrToken)
		require.NotErrorIs(t, err, ErrLost)
		s := users(t, 0)
		s.Queue = 1 << 20
		_, err = Client{Dial: way, Token: secret}.Run(t.Context(), s, nil)
		require.ErrorContains(t, err, "1048576 records in the queue")
		s = users(t, 0)
		s.Dial = load.DialTo("127.0.0.1:1")
		_, err = Client{Dial: way, Token: secret}.Run(t.Context(), s, nil)
		require.ErrorContains(t, err, "a way to dial of its own")
		s = users(t, 0)
		s.Body = make([]byte, maxStart)
		_, err = Client{Dial: way, Token: secret}.Run(t.Context(), s, nil)
		require.ErrorContains(t, err, "the stream takes")
	})
}

// An agent that is none, or does not tell the truth, is found out.
func TestImpostors(t *testing.T) {
	t.Parallel()
	welcome, pongs := frame(kindWelcome, `{"version":"1.7"}`), strings.Repeat(frame(kindPong, "\x00\x00\x00\x00\x00\x00\x00\x09"), pings)
	result := func(change func(*load.Result)) string {
		r := &load.Result{Stream: "users"}
		change(r)
		content, err := writeOutcome(r, time.Time{})
		require.NoError(t, err)
		return frame(kindResult, string(content))
	}
	nothing := func(*load.Result) {}
	one := frame(kindRecords, string(pack([]load.Record{{Status: 200, OK: true}})))
	sent := func(r *load.Result) {
		r.Scheduled, r.Summary = 1, load.Summary{}
		r.Add(load.Record{Status: 200, OK: true})
	}
	for name, tc := range map[string]struct {
		answer string
		is     error
		want   string
	}{
		"a web server":        {"HTTP/1.1 400 Bad Request\r\n\r\n", errFrame, "a frame of 1213486160 bytes"},
		"another version":     {frame(kindWelcome, `{"version":"2.0"}`), ErrVersion, `it speaks "2.0"`},
		"no welcome":          {frame(kindBeat, ""), errFrame, "beat, where welcome belongs"},
		"an unknown kind":     {frame(99, ""), errFrame, "kind 99"},
		"no time":             {welcome + frame(kindPong, "x"), errFrame, "a time of 1 bytes"},
		"half a conversation": {welcome, ErrLost, "hung up"},
		"no result":           {welcome + pongs + one, ErrLost, "after 1 records"},
		"half a frame":        {welcome + pongs + one[:9], ErrLost, "unexpected EOF"},
		"a welcome again":     {welcome + pongs + welcome, errFrame, "welcome from an agent"},
		"a broken record":     {welcome + pongs + frame(kindRecords, "\xff"), errFrame, "a record with"},
		"a broken result":     {welcome + pongs + frame(kindResult, "{"), errFrame, "unexpected end of JSON"},
		"an empty result":     {welcome + pongs + frame(kindResult, "{}"), errFrame, "a result without content"},
		"a broken failure":    {welcome + pongs + frame(kindFailure, "{"), errFrame, "a failure that cannot be read"},
		"another stream's":    {welcome + pongs + result(func(r *load.Result) { r.Stream = "others" }), nil, `account for the load: the agent sent 0 requests of "others"`},
		"a record too many":   {welcome + pongs + one + one + result(sent), nil, "sent 1 requests of \"users\" and lost 0 records, 2 arrived"},
		"a record too few":    {welcome + pongs + result(sent), nil, "0 arrived"},
		"sums that are none":  {welcome + pongs + result(func(r *load.Result) { r.Sent = 1 }), nil, "does not add up"},
		"no true time":        {welcome + pongs + result(func(r *load.Result) { r.Elapsed = -1 }), nil, "a time of -1ns"},
		"nothing wrong":       {welcome + pongs + result(nothing), nil, ""},
		"one request":         {welcome + pongs + one + result(sent), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testbubble.Test(t, func(t *testing.T) {
				var impostor sync.WaitGroup
				defer impostor.Wait()
				way := func(context.Context) (net.Conn, error) {
					conn, other := net.Pipe()
					impostor.Go(func() { _, _ = io.Copy(io.Discard, other) })
					impostor.Go(func() {
						_, _ = io.WriteString(other, tc.answer)
						time.Sleep(500 * time.Millisecond) // it hears everything
						other.Close()
					})
					return conn, nil
				}
				_, err := Client{Dial: way, Token: secret}.Run(t.Context(), users(t, 0), nil)
				if tc.want == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, tc.want)
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
			})
		})
	}
}

func TestAResultThatDoesNotAddUp(t *testing.T) {
	t.Parallel()
	good := func() *load.Result {
		r := &load.Result{Stream: "users", Scheduled: 5}
		for _, class := range []load.Class{load.None, load.None, load.Timeout, load.Unanswered, load.Reset} {
			r.Add(load.Record{OK: class == load.None, Class: class, Error: string(class)})
		}
		return r
	}
	require.NoError(t, addsUp(good()))
	for name, spoil := range map[string]func(*load.Result){
		"sent":        func(r *load.Result) { r.Sent++ },
		"completed":   func(r *load.Result) { r.Completed++; r.Sent++ },
		"unanswered":  func(r *load.Result) { r.Unanswered++; r.Sent++ },
		"a histogram": func(r *load.Result) { r.Failed.Record(1) },
		"service":     func(r *load.Result) { r.Service.Record(1) },
		"slip":        func(r *load.Result) { r.Slip.Record(1) },
		"errors":      func(r *load.Result) { r.Errors[load.Unanswered]++ },
		"scheduled":   func(r *load.Result) { r.Scheduled = 4 },
		"overflow":    func(r *load.Result) { r.Unanswered = r.Sent - r.Completed - 1; r.Completed++ },
		"late":        func(r *load.Result) { r.Late = 6 },
		"saturated":   func(r *load.Result) { r.Saturated = 6 },
		"lost":        func(r *load.Result) { r.Lost = 6 },
		"a time":      func(r *load.Result) { r.OK.Max = -1 },
	} {
		r := good()
		spoil(r)
		require.Error(t, addsUp(r), name)
	}
}

func TestServeNeedsAToken(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, Serve(t.Context(), loadtest.NewListener(), ""), "there is no token")
}

func TestServeEndsWithItsListener(t *testing.T) {
	t.Parallel()
	l := loadtest.NewListener()
	l.Close()
	require.ErrorIs(t, Serve(t.Context(), l, secret), net.ErrClosed)
}

func TestTooManyConversations(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		way, _ := stand(t, nil)
		for range maxConversations {
			conn, err := way(t.Context())
			require.NoError(t, err)
			defer conn.Close()
		}
		synctest.Wait()
		_, took := say(t, way, "")
		require.Zero(t, took, "the one too many is closed at once")
		time.Sleep(greeting)
		synctest.Wait()
		_, took = say(t, way, "")
		require.Equal(t, greeting, took, "there is room again")
	})
}

// Neither the token nor what is sent gets into the log.
func TestTheLogIsDiscreet(t *testing.T) {
	t.Parallel()
	testbubble.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := loadtest.NewListener()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		server := &Server{Token: secret, Log: slog.New(slog.NewTextHandler(&log, nil)), dial: loadtest.Serve(t, new(shop))}
		go func() { served <- server.Serve(ctx, l) }()
		s := users(t, time.Second)
		s.Headers = http.Header{"Authorization": {"confidential"}}
		_, err := Client{Dial: l.Dial, Token: secret}.Run(t.Context(), s, nil)
		require.NoError(t, err)
		_, err = Client{Dial: l.Dial, Token: "guessed"}.Run(t.Context(), s, nil)
		require.ErrorIs(t, err, ErrToken)
		cancel()
		require.NoError(t, <-served)
		require.Contains(t, log.String(), "load begins")
		require.Contains(t, log.String(), "refused a connection")
		for _, word := range []string{secret, "confidential", "guessed"} {
			require.NotContains(t, log.String(), word)
		}
	})
}

// Whatever somebody says, the agent ends, and sends nothing for who does not know the token.
func FuzzGreeting(f *testing.F) {
	start := `{"name":"users","url":"http://shop","pacer":{"constant":5},"duration":1}`
	f.Add([]byte(greetings(secret) + frame(kindPing, "") + frame(kindStart, start) + frame(kindBeat, "") + frame(kindStop, "")))
	f.Add([]byte(greetings("x") + frame(kindStart, start)))
	f.Add([]byte(frame(kindHello, `{"version":"1.0"`)))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := &Server{Token: secret}
		l := newLink(saying{bytes.NewReader(text)})
		stream, err := s.greet(l, time.Now())
		l.close()
		if err == nil {
			require.NoError(t, stream.Validate())
			require.Contains(t, string(text), secret[:2])
		}
	})
}

// saying is a connection from somebody who says one thing and hears nothing.
type saying struct{ io.Reader }

func (saying) Write(b []byte) (int, error)      { return len(b), nil }
func (saying) Close() error                     { return nil }
func (saying) LocalAddr() net.Addr              { return nil }
func (saying) RemoteAddr() net.Addr             { return nil }
func (saying) SetDeadline(time.Time) error      { return nil }
func (saying) SetReadDeadline(time.Time) error  { return nil }
func (saying) SetWriteDeadline(time.Time) error { return nil }

// What is taken for a result adds up.
func FuzzOutcome(f *testing.F) {
	r := &load.Result{Stream: "users", Scheduled: 2}
	r.Add(load.Record{OK: true, Status: 200, Done: time.Second})
	r.Add(load.Record{Class: load.Unanswered, Error: "context canceled"})
	content, err := writeOutcome(r, time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte(`{"began":1,"result":{"Sent":1}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		o, err := readOutcome(content)
		if err != nil {
			return
		}
		require.Equal(t, o.Result.Sent, o.Result.Completed+o.Result.Unanswered)
		require.LessOrEqual(t, o.Result.Achieved(), 1.0)
		_, err = json.Marshal(o)
		require.NoError(t, err)
	})
}
