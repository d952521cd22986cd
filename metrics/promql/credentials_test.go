package promql_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/metrics/promql"
)

const one = `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`

// A token may be replaced between two queries, and is told to nobody but the server.
func TestRemoteShowsItsToken(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer second-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, one)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	r := &promql.Remote{URL: strings.Replace(server.URL, "://", "://user:first-password@", 1), TokenFile: file, Client: server.Client()}

	require.ErrorContains(t, r.Check(t.Context()), "read the token")
	for content, want := range map[string]string{
		" \n":             "there is no token in " + file,
		"first-token":     "status 401 Unauthorized: it wants other credentials",
		"first\ntoken":    "invalid header field value",
		"first-token\x00": "invalid header field value",
	} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		err := r.Check(t.Context())
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "first-")
		require.NotContains(t, fmt.Sprintf("%+v", err), "first\n")
	}
	require.NoError(t, os.WriteFile(file, []byte("second-token\n"), 0o600))
	require.NoError(t, r.Check(t.Context()))
}

func TestRemoteChecks(t *testing.T) {
	t.Parallel()
	r, asked := api(t, 200, one)
	require.NoError(t, r.Check(t.Context()))
	require.Equal(t, "vector(1)", asked.PostForm.Get("query"))
	require.Equal(t, "10", asked.PostForm.Get("timeout"))
	r, _ = api(t, 200, strings.Replace(one, `"1"`, `"2"`, 1))
	require.ErrorContains(t, r.Check(t.Context()), "the answer is")
	for _, address := range []string{"", "prometheus:9090", "ftp://prometheus", "http://", "http://user:first-password@%zz"} {
		err := (&promql.Remote{URL: address}).Check(t.Context())
		require.ErrorContains(t, err, "not an absolute http or https address")
		require.NotContains(t, err.Error(), "first-")
	}
}

// A redirected POST would arrive as a GET without its query, and be blamed on the query.
func TestRemoteIsElsewhere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to, found := strings.CutPrefix(r.URL.Path, "/old"); found {
			http.Redirect(w, r, "/new"+to, http.StatusFound)
			return
		}
		t.Errorf("followed to %s", r.URL)
	}))
	defer server.Close()
	err := (&promql.Remote{URL: server.URL + "/old", Client: server.Client()}).Check(t.Context())
	require.ErrorContains(t, err, "status 302 Found: it is at "+server.URL+"/new")
	require.NotErrorIs(t, err, promql.ErrQuery)
}

// The time that a query may take is over also when the answer has begun.
func TestRemoteTakesTooLong(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, one[:20])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	r := &promql.Remote{URL: server.URL, Client: server.Client(), Timeout: 50 * time.Millisecond}
	require.ErrorIs(t, r.Check(t.Context()), promql.ErrTimeout)

	r.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	err := r.Check(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, promql.ErrTimeout)
}
