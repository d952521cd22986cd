package proxy

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
)

func TestDates(t *testing.T) {
	t.Parallel()
	var d dates
	at := time.Date(1994, time.November, 6, 9, 49, 37, 0, time.FixedZone("CET", 3600))
	const want = "Sun, 06 Nov 1994 08:49:37 GMT" // RFC 9110's example
	require.Equal(t, want, d.at(at))
	require.Equal(t, want, d.at(at.Add(999*time.Millisecond)))
	require.Equal(t, "Sun, 06 Nov 1994 08:49:38 GMT", d.at(at.Add(time.Second)))
	require.Equal(t, want, d.at(at), "a clock may be set back")
}

// What the sidecar itself answers says when; what it passes on is as it came.
func TestOwnAnswersAreDated(t *testing.T) {
	t.Parallel()
	const old = "Sun, 06 Nov 1994 08:49:37 GMT"
	r, _, at := simple(t, answering(200, "", "Date: "+old), nil)
	host := mesh.FQDN("backend", mesh.DefaultNamespace)
	direct := mesh.Route{Name: "direct", Matches: []mesh.Match{{Path: &mesh.StringMatch{Prefix: ptr("/direct")}}}, Direct: &mesh.DirectResponse{Status: 200, Body: []byte("hi")}}
	r.routes(host, direct, split(host, ""))
	r.apply()
	begin := time.Now().Truncate(time.Second)
	for _, send := range []string{"GET /direct HTTP/1.1\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n"} {
		c := call(t, at)
		c.say(send)
		resp, _ := c.reply("GET")
		require.Len(t, resp.Header.Values("Date"), 1, send)
		date, err := http.ParseTime(resp.Header.Get("Date"))
		require.NoError(t, err)
		require.False(t, date.Before(begin), "%v is before %v", date, begin)
		require.False(t, date.After(time.Now()), "%v has not come", date)
	}
	resp, _ := call(t, at).get("/")
	require.Equal(t, []string{old}, resp.Header.Values("Date"))
}
