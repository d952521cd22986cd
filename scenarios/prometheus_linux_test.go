package scenarios_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/fixtures/observability"
	"meshtest.dev/meshtest/internal/testbin"
	"meshtest.dev/meshtest/internal/testprom"
	"meshtest.dev/meshtest/metrics/promql"
	"meshtest.dev/meshtest/reports"
)

// standardLabels are those of Istio's metrics of requests (istio/proxy, testdata/metric/client_request_total.yaml.tmpl). Of a request that is no gRPC, grpc_response_status is empty there too, which to
// Prometheus is the same as none.
var standardLabels = strings.Fields(`reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace source_principal source_app source_version source_cluster
	destination_workload destination_workload_namespace destination_principal destination_app destination_version destination_service destination_canonical_service destination_canonical_revision
	destination_service_name destination_service_namespace destination_cluster request_protocol response_code response_flags connection_security_policy`)

// standing is a run whose load is over and whose environment stays.
type standing struct {
	cmd     *exec.Cmd
	out     string
	targets string // address of its targets, for Prometheus
	stays   chan struct{}
	heard   chan string // all that it said, when it has ended
}

// keep begins a run that stays when its verdict is there.
func keep(t *testing.T, scenario string) *standing {
	t.Helper()
	r := &standing{out: filepath.Join(t.TempDir(), "out"), stays: make(chan struct{}), heard: make(chan string, 1)}
	r.cmd = exec.CommandContext(t.Context(), filepath.Join(testbin.Dir(t), "meshtest"),
		"run", scenario, "--keep-env", "--progress", "plain", "--metrics-listen", "127.0.0.1:0", "--out", r.out)
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(os.Interrupt) }
	said, err := r.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	address := make(chan string, 1)
	go r.hear(said, address)
	select {
	case r.targets = <-address:
	case all := <-r.heard:
		require.FailNow(t, "the run ended at once", all)
	}
	return r
}

var targetsAt = regexp.MustCompile(`http://\S+/targets`)

func (r *standing) hear(said io.Reader, address chan<- string) {
	var all strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		line := lines.Text()
		fmt.Fprintln(&all, line)
		if at := targetsAt.FindString(line); at != "" {
			address <- at
		}
		if strings.Contains(line, "the environment stays") {
			close(r.stays)
		}
	}
	r.heard <- all.String()
}

// loadOver waits until load is over.
func (r *standing) loadOver(t *testing.T) {
	t.Helper()
	select {
	case <-r.stays:
	case all := <-r.heard:
		require.FailNow(t, "the run ended", all)
	}
}

// end interrupts the run, and returns what its load sent, by status.
func (r *standing) end(t *testing.T) (reports.Report, map[string]float64) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
	<-r.heard
	_ = r.cmd.Wait()
	var report reports.Report
	data, err := os.ReadFile(filepath.Join(r.out, "report.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &report))
	file, err := os.Open(filepath.Join(r.out, "journal.ndjson"))
	require.NoError(t, err)
	defer file.Close()
	byStatus := map[string]float64{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line struct {
			Kind string
			Data struct{ ByStatus map[string]float64 }
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		if line.Kind == "load" {
			maps.Copy(byStatus, line.Data.ByStatus) // the last one has all
		}
	}
	require.NoError(t, lines.Err())
	return report, byStatus
}

// A real Prometheus scrapes a run, and has counted each request that the load sent, by what was answered. Grafana's panels show something, and the graph is that of the application.
func TestPrometheusScrapesARun(t *testing.T) {
	testprom.Need(t)
	r := keep(t, "fail-header-cascade")
	prometheus := promqlOf(t, testprom.Start(t, observability.Prometheus(r.targets, 250*time.Millisecond)))
	r.loadOver(t)
	over := time.Now()
	var at time.Time
	all := func(query string) []promql.Series {
		v, err := prometheus.Instant(t.Context(), query, at)
		require.NoError(t, err)
		return v.Series
	}
	await(t, func() bool { // two scrapes of each sidecar that began after the load; a scrape that a busy machine makes too slow ends all series until the next
		at = time.Now().Add(-time.Second) // no scrape is under way that began before
		up := all(`timestamp(up) and up == 1`)
		return len(up) == 4 && !slices.ContainsFunc(up, func(s promql.Series) bool {
			return s.Points[0].V < float64(over.Add(time.Second).UnixMilli())/1000
		})
	})
	for _, q := range observability.Queries(time.Minute) {
		found := all(q.Expr)
		if q.Needs == observability.AnyHTTP {
			require.NotEmpty(t, found, "dashboard %s, panel %s: %s", q.Dashboard, q.Panel, q.Expr)
		}
	}
	edge := all(`istio_requests_total{source_workload="edge"}`)
	byCode := numbers(all(`sum by (response_code) (istio_requests_total{reporter="source",source_workload="edge"})`), "response_code")
	bySource := numbers(all(`sum by (destination_service_name) (istio_requests_total{reporter="source"})`), "destination_service_name")
	atSource, atDestination := told(all(`istio_requests_total{reporter="source"}`)), told(all(`istio_requests_total{reporter="destination"}`))
	durations := numbers(all(`sum by (destination_service_name) (istio_request_duration_milliseconds_count{reporter="source"})`), "destination_service_name")
	now := testbin.Run(t, testbin.Dir(t), "meshtest", nil, "graph", "--prometheus", prometheus.URL, "--of", "frontend", "--window", "1m")
	report, sent := r.end(t)
	then := testbin.Run(t, testbin.Dir(t), "meshtest", nil, "graph", r.out)

	require.Regexp(t, "^frontend\n└─ middleware  http .* failed, p95 .*\n   └─ backend  http .* failed, p95 .*\n$", now.Stdout, now.Stderr)
	require.Regexp(t, "^edge\n└─ frontend  http .* failed, p95 .*\n   └─ middleware  http .*\n      └─ backend  http .*\n$", then.Stdout, then.Stderr)
	require.NotEmpty(t, edge)
	for _, s := range edge {
		labels := slices.Sorted(maps.Keys(s.Labels))
		require.ElementsMatch(t, append([]string{"__name__", "job", "instance"}, standardLabels...), labels)
	}
	require.Equal(t, "pass", report.Verdict)
	require.Greater(t, sent["200"], 0.0)
	require.Greater(t, sent["500"], 0.0)
	require.Equal(t, sent, byCode, "what the load generator has counted")
	require.Equal(t, float64(report.Load[0].Completed), bySource["frontend"])
	require.Len(t, bySource, 3)
	require.Equal(t, atSource, atDestination, "both ends of each edge tell the same")
	require.Equal(t, bySource, durations)
}

func promqlOf(t *testing.T, url string) *promql.Remote {
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	return &promql.Remote{URL: url, Client: client}
}

// numbers are the values by a label.
func numbers(series []promql.Series, label string) map[string]float64 {
	by := map[string]float64{}
	for _, s := range series {
		by[s.Labels[label]] = s.Points[0].V
	}
	return by
}

// told are the values by all labels but those that say who tells, and what he knows better.
func told(series []promql.Series) map[string]float64 {
	by := map[string]float64{}
	for _, s := range series {
		for _, own := range []string{"reporter", "instance", "connection_security_policy"} {
			delete(s.Labels, own)
		}
		by[fmt.Sprint(s.Labels)] += s.Points[0].V
	}
	return by
}

// await asks again and again, for a minute at most.
func await(t *testing.T, there func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !there() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.FailNow(t, "it never came")
		}
	}
}
