package promql_test

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/metrics/promql"
)

// api is a server that always gives one answer, and what it was asked.
func api(t *testing.T, status int, answer string) (*promql.Remote, *http.Request) {
	t.Helper()
	asked := new(http.Request)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			panic(err)
		}
		*asked = *r
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return &promql.Remote{URL: server.URL + "/prom/", Header: http.Header{"Authorization": {"Bearer x"}}, Client: server.Client()}, asked
}

func point(ms int64, v float64) promql.Point { return promql.Point{T: time.UnixMilli(ms).UTC(), V: v} }

func TestRemoteAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		data string
		want promql.Value
	}{
		"vector": {`{"resultType":"vector","result":[{"metric":{"__name__":"up","app":"a"},"value":[1435781451.781,"1"]},{"metric":{},"value":[1435781451.781,"-Inf"]}]}`,
			promql.Value{Kind: promql.Vector, Series: []promql.Series{
				{Labels: map[string]string{"__name__": "up", "app": "a"}, Points: []promql.Point{point(1435781451781, 1)}},
				{Labels: map[string]string{}, Points: []promql.Point{point(1435781451781, math.Inf(-1))}},
			}}},
		"matrix": {`{"resultType":"matrix","result":[{"metric":{"app":"a"},"values":[[1435781430.781,"1"],[1435781445.781,"2.5e3"]]}]}`,
			promql.Value{Kind: promql.Matrix, Series: []promql.Series{
				{Labels: map[string]string{"app": "a"}, Points: []promql.Point{point(1435781430781, 1), point(1435781445781, 2500)}},
			}}},
		"scalar":  {`{"resultType":"scalar","result":[1435781460,"42"]}`, promql.Value{Kind: promql.Scalar, Series: []promql.Series{{Labels: map[string]string{}, Points: []promql.Point{point(1435781460000, 42)}}}}},
		"string":  {`{"resultType":"string","result":[1435781460,"text"]}`, promql.Value{Kind: promql.Text, Text: "text"}},
		"no data": {`{"resultType":"vector","result":[]}`, promql.Value{Kind: promql.Vector, Series: []promql.Series{}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, asked := api(t, 200, `{"status":"success","data":`+tc.data+`}`)
			got, err := r.Instant(t.Context(), "up", time.UnixMilli(1435781451781))
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
			require.Equal(t, "/prom/api/v1/query", asked.URL.Path)
			require.Equal(t, "up", asked.PostForm.Get("query"))
			require.Equal(t, "1435781451.781", asked.PostForm.Get("time"))
			require.Equal(t, "Bearer x", asked.Header.Get("Authorization"))
		})
	}
}

func TestRemoteFinds(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]promql.Found{
		`{"resultType":"vector","result":[]}`:                                                            promql.NoData,
		`{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}`:                             promql.NaN,
		`{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}]}`:                               promql.Number,
		`{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]},{"metric":{},"value":[1,"2"]}]}`: promql.Many,
	} {
		r, _ := api(t, 200, `{"status":"success","data":`+data+`}`)
		got, err := r.Instant(t.Context(), "up", start)
		require.NoError(t, err)
		_, found := got.One()
		require.Equal(t, want, found)
	}
}

func TestRemoteRange(t *testing.T) {
	t.Parallel()
	r, asked := api(t, 200, `{"status":"success","warnings":["w"],"infos":["i"],"data":{"resultType":"matrix","result":[]}}`)
	got, err := r.Range(t.Context(), "up", start, start.Add(time.Minute), 1500*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, []string{"w", "i"}, got.Warnings)
	require.Equal(t, "/prom/api/v1/query_range", asked.URL.Path)
	require.Equal(t, "1700000000.000", asked.PostForm.Get("start"))
	require.Equal(t, "1700000060.000", asked.PostForm.Get("end"))
	require.Equal(t, "1.5", asked.PostForm.Get("step"))
	_, err = r.Range(t.Context(), "up", start, start, 0)
	require.ErrorIs(t, err, promql.ErrQuery)
}

func TestRemoteErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		answer string
		is     error
		text   string
	}{
		"bad query":      {400, `{"status":"error","errorType":"bad_data","error":"parse error"}`, promql.ErrQuery, "parse error"},
		"cannot execute": {422, `{"status":"error","errorType":"execution","error":"many-to-many"}`, promql.ErrQuery, "many-to-many"},
		"timeout":        {503, `{"status":"error","errorType":"timeout","error":"query timed out"}`, promql.ErrTimeout, "timed out"},
		"unavailable":    {503, `{"status":"error","errorType":"unavailable","error":"starting"}`, nil, "starting"},
		"a proxy's page": {502, `<html>bad gateway`, nil, "502 Bad Gateway"},
		"another API":    {200, `{}`, nil, "something else"},
		"half a point":   {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}`, nil, "point"},
		"odd value":      {200, `{"status":"success","data":{"resultType":"scalar","result":[1,"x"]}}`, nil, "point"},
		"unknown type":   {200, `{"status":"success","data":{"resultType":"tensor","result":[]}}`, nil, "tensor"},
		"histogram":      {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}}`, promql.ErrQuery, "native histogram"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := api(t, tc.status, tc.answer)
			_, err := r.Instant(t.Context(), "up", start)
			require.ErrorContains(t, err, tc.text)
			require.ErrorContains(t, err, `for "up"`)
			for _, kind := range []error{promql.ErrQuery, promql.ErrTimeout} {
				require.Equal(t, kind == tc.is, isError(err, kind), "%v", err)
			}
		})
	}
}

func TestRemoteIsNotThere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then the server sees that the client is gone
		<-r.Context().Done()
	}))
	r := &promql.Remote{URL: server.URL, Client: server.Client()}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := r.Instant(ctx, "up", start)
	require.ErrorIs(t, err, promql.ErrTimeout)
	server.Close()
	_, err = r.Instant(t.Context(), "up", start)
	require.ErrorContains(t, err, "refused")
	require.NotErrorIs(t, err, promql.ErrQuery)
}

func isError(err, kind error) bool { return strings.Contains(err.Error(), kind.Error()) }
