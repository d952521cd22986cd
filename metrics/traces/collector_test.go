package traces_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/metrics/traces"
)

// example is the one in the API's description.
const example = `[{"id":"352bff9a74ca9ad2","traceId":"5af7183fb1d4cf5f","parentId":"6b221d5bc9e6496c","name":"get /api","timestamp":1556604172355737,"duration":1431,"kind":"SERVER",
"localEndpoint":{"serviceName":"backend","ipv4":"192.168.99.1","port":3306},"remoteEndpoint":{"ipv4":"172.19.0.2","port":58648},"tags":{"http.method":"GET","http.path":"/api"}}]`

func TestDecode(t *testing.T) {
	t.Parallel()
	spans, err := traces.Decode([]byte(example))
	require.NoError(t, err)
	require.Len(t, spans, 1)
	require.Equal(t, "backend", spans[0].Service())
	require.Equal(t, 1431*time.Microsecond, spans[0].Took())
	again, err := json.Marshal(spans)
	require.NoError(t, err)
	require.JSONEq(t, example, string(again))
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	span := func(fields string) string {
		return `[{"traceId":"5af7183fb1d4cf5f","id":"352bff9a74ca9ad2"` + fields + `}]`
	}
	_, err := traces.Decode([]byte(span("")))
	require.NoError(t, err)
	for text, want := range map[string]string{
		"":                                     "EOF",
		"{}":                                   "cannot unmarshal object",
		"[] []":                                "behind the list",
		"[{}]":                                 "traceId",
		span(`,"kind":"client"`):               "kind",
		span(`,"kind":"SPAN"`):                 "kind",
		span(`,"color":"red"`):                 "unknown field",
		span(`,"parentId":"1"`):                "parentId",
		span(`,"parentId":"352bff9a74ca9ad2"`): "its own parent",
		span(`,"parentId":"0000000000000000"`): "parentId",
		span(`,"timestamp":-1`):                "negative",
		span(`,"timestamp":1.5`):               "cannot unmarshal number",
		span(`,"timestamp":"1"`):               "cannot unmarshal string",
		span(`,"duration":-1`):                 "negative",
		span(`,"shared":true`):                 "shared",
		span(`,"kind":"CLIENT","shared":true`): "shared",
		span(`,"name":"GET"`):                  "lower case",
		span(`,"tags":{"a":1}`):                "cannot unmarshal number",
		span(`,"annotations":[{"value":"x"}]`): "timestamp",
		span(`,"localEndpoint":{"serviceName":"Web"}`):                             "lower case",
		span(`,"localEndpoint":{"ipv4":"::1"}`):                                    "ipv4",
		span(`,"remoteEndpoint":{"ipv6":"1.2.3.4"}`):                               "ipv6",
		span(`,"remoteEndpoint":{"ipv6":"::ffff:1.2.3.4"}`):                        "ipv6",
		span(`,"remoteEndpoint":{"port":65536}`):                                   "port",
		`[{"traceId":"5AF7183FB1D4CF5F","id":"352bff9a74ca9ad2"}]`:                 "traceId",
		`[{"traceId":"5af7183fb1d4cf5f00","id":"352bff9a74ca9ad2"}]`:               "traceId",
		`[{"traceId":"00000000000000000000000000000000","id":"352bff9a74ca9ad2"}]`: "traceId",
		`[{"traceId":"5af7183fb1d4cf5f","id":"352bff9a74ca9ad"}]`:                  "id",
	} {
		_, err := traces.Decode([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`[{"traceId":"5af7183fb1d4cf5f","id":"352bff9a74ca9ad2","kind":"SERVER","shared":true}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		spans, err := traces.Decode(text)
		if err != nil {
			return
		}
		told := 0
		for _, trace := range traces.Assemble(spans) {
			for n := range trace.All() {
				n.FanOut()
				told++
			}
			attempts, calls := trace.Attempts()
			require.LessOrEqual(t, calls, attempts)
		}
		require.LessOrEqual(t, told, len(spans))
		traces.Links(traces.Assemble(spans))
	})
}

func post(c http.Handler, body []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v2/spans", bytes.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w
}

func get(t *testing.T, c http.Handler, path string, into any) int {
	t.Helper()
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code == http.StatusOK {
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), into), w.Body.String())
	}
	return w.Code
}

func TestCollectorAnswersLikeZipkin(t *testing.T) {
	t.Parallel()
	c := traces.NewCollector(traces.CollectorOptions{Now: func() time.Time { return time.Unix(2000, 0) }})
	_, more := c.Spans()
	one := []traces.Span{
		at("c", "1", "", "edge", "web", 0, 100), shared(at("s", "1", "", "web", "", 1, 99)), tagged(at("c", "2", "1", "web", "api", 10, 50), traces.TagError, "true"),
	}
	other := at("c", "7", "", "edge", "api", 500, 510)
	other.TraceID = "00000000000000aa"
	for _, spans := range [][]traces.Span{one, {other}} {
		text, err := json.Marshal(spans)
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, post(c, text).Code)
	}
	<-more

	var names []string
	require.Equal(t, 200, get(t, c, "/api/v2/services", &names))
	require.Equal(t, []string{"edge", "web"}, names)
	require.Equal(t, 200, get(t, c, "/api/v2/spans?serviceName=web", &names))
	require.Equal(t, []string{"api", "web"}, names)
	require.Equal(t, 200, get(t, c, "/api/v2/spans?serviceName=nobody", &names))
	require.NotNil(t, names)
	require.Empty(t, names)

	var trace []traces.Span
	require.Equal(t, 200, get(t, c, "/api/v2/trace/"+trace1, &trace))
	require.Len(t, trace, 3)
	require.Equal(t, 200, get(t, c, "/api/v2/trace/000000000000000000000000000000aa", &trace), "an id of 64 bits has another form")
	require.Len(t, trace, 1)
	require.Equal(t, 404, get(t, c, "/api/v2/trace/00000000000000bb", nil))
	require.Equal(t, 400, get(t, c, "/api/v2/trace/x", nil))

	var all [][]traces.Span
	require.Equal(t, 200, get(t, c, "/api/v2/traceMany?traceIds=00000000000000aa,00000000000000bb,"+trace1, &all))
	require.Len(t, all, 2)
	require.Equal(t, 400, get(t, c, "/api/v2/traceMany?traceIds=x", nil))

	var links []traces.Link
	require.Equal(t, 200, get(t, c, "/api/v2/dependencies?endTs=2000000", &links))
	require.Equal(t, []traces.Link{{"edge", "api", 1, 0}, {"edge", "web", 1, 0}, {"web", "api", 1, 1}}, links)
	require.Equal(t, 200, get(t, c, "/api/v2/dependencies?endTs=2000000&lookback=1", &links))
	require.Empty(t, links)
	require.Equal(t, 400, get(t, c, "/api/v2/dependencies", nil))

	for query, want := range map[string]int{
		"": 2, "serviceName=web": 1, "serviceName=edge": 2, "serviceName=edge&spanName=api": 1, "spanName=all": 2, "minDuration=50000": 1, "maxDuration=10000": 1, "limit=1": 1,
		"annotationQuery=error": 1, "annotationQuery=error%3Dtrue": 1, "annotationQuery=error%3Dfalse": 0, "annotationQuery=error+and+http.path%3D%2F": 0,
		"endTs=1000": 0, "endTs=1000400&lookback=500": 1, "lookback=1": 0,
	} {
		require.Equal(t, 200, get(t, c, "/api/v2/traces?"+query, &all), query)
		require.Len(t, all, want, query)
	}
	require.Equal(t, 200, get(t, c, "/api/v2/traces?limit=1", &all))
	require.Equal(t, "00000000000000aa", all[0][0].TraceID, "the latest first")
	require.Equal(t, 400, get(t, c, "/api/v2/traces?limit=x", nil))
	require.Equal(t, 200, get(t, c, "/health", &map[string]string{}))
}

func TestCollectorRefuses(t *testing.T) {
	t.Parallel()
	c := traces.NewCollector(traces.CollectorOptions{})
	w := post(c, []byte(`[{"traceId":"x"}]`))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "span 0: traceId")
	require.Equal(t, http.StatusBadRequest, post(c, []byte(example), "Content-Encoding", "gzip").Code)

	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte(example))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.Equal(t, http.StatusAccepted, post(c, zipped.Bytes(), "Content-Encoding", "gzip").Code)

	zipped.Reset() // little that becomes much
	z.Reset(&zipped)
	_, err = z.Write([]byte(strings.Repeat(" ", 6<<20)))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.Equal(t, http.StatusRequestEntityTooLarge, post(c, zipped.Bytes(), "Content-Encoding", "gzip").Code)
	spans, _ := c.Spans()
	require.Len(t, spans, 1)
}

func TestCollectorForgetsTheOldest(t *testing.T) {
	t.Parallel()
	c := traces.NewCollector(traces.CollectorOptions{MaxSpans: 10})
	for i := range 20 {
		s := at("c", "1", "", "edge", "web", 0, 1)
		s.TraceID = fmt.Sprintf("%016x", i+1)
		c.Add([]traces.Span{s})
	}
	spans, _ := c.Spans()
	require.Len(t, spans, 10)
	require.Equal(t, "000000000000000b", spans[0].TraceID)
}
