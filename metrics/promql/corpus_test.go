package promql_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/metrics"
	"meshtest.dev/meshtest/metrics/promql"
)

// TestPrometheusCorpus runs Prometheus's own query tests over our Store: what they say of series of floats. Their runner
// needs tsdb, which we do not import, so the files are read here, from the module that the engine comes from.
func TestPrometheusCorpus(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	require.NoError(t, err)
	dir := filepath.Join(strings.TrimSpace(string(out)), "promql", "promqltest", "testdata")
	for _, file := range []struct {
		name string
		min  int // evaluations that are run: a reader that skips everything would pass otherwise
	}{
		{"functions", 250}, {"aggregators", 80}, {"operators", 80}, {"histograms", 60}, {"selectors", 30},
		{"staleness", 10}, {"subquery", 20}, {"at_modifier", 40}, {"literals", 15}, {"range_queries", 10}, {"collision", 1},
	} {
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join(dir, file.name+".test"))
			require.NoError(t, err)
			c := &corpus{t: t, file: file.name, lines: lines(string(text))}
			c.run()
			t.Logf("%d evaluations, %d left out", c.evaluated, c.skipped)
			require.GreaterOrEqual(t, c.evaluated, file.min)
		})
	}
}

var (
	loading  = regexp.MustCompile(`^load(_with_nhcb)?\s+(\S+)$`)
	instant  = regexp.MustCompile(`^eval(?:_(fail|warn|info|ordered))?\s+instant\s+(?:at\s+(\S+))?\s+(.+)$`)
	ranged   = regexp.MustCompile(`^eval(?:_(fail|warn|info))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)$`)
	language = parser.NewParser(parser.Options{})
)

// corpus reads one file: blocks of load and eval, with clear in between.
type corpus struct {
	t     *testing.T
	file  string
	lines []string
	at    int

	store              *metrics.Store
	engine             *promql.Engine
	missing            []string // metrics that the store cannot hold
	evaluated, skipped int
}

func lines(text string) []string {
	all := strings.Split(text, "\n")
	for i, l := range all {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "#") {
			l = ""
		}
		all[i] = l
	}
	return all
}

func (c *corpus) run() {
	c.clear()
	for c.at < len(c.lines) {
		line := c.lines[c.at]
		c.at++
		switch {
		case line == "":
		case line == "clear":
			c.clear()
		case strings.HasPrefix(line, "load"):
			c.load(line, c.block())
		case strings.HasPrefix(line, "eval"):
			c.eval(line, c.at, c.block())
		default:
			require.Fail(c.t, "unknown command", "%s:%d: %s", c.file, c.at, line)
		}
	}
}

func (c *corpus) clear() {
	c.store = metrics.NewStore(metrics.Bounds{Retention: 1e6 * time.Hour})
	c.engine = promql.NewEngine(c.store, promql.Options{})
	c.missing = nil
}

// block reads the lines up to the next empty one.
func (c *corpus) block() []string {
	from := c.at
	for c.at < len(c.lines) && c.lines[c.at] != "" {
		c.at++
	}
	return c.lines[from:c.at]
}

func (c *corpus) load(line string, series []string) {
	match := loading.FindStringSubmatch(line)
	require.NotNil(c.t, match, line)
	gap := duration(c.t, match[2])
	defined := map[string][]metrics.Sample{} // of a series that is defined twice the second definition counts
	for _, s := range series {
		if native(s) {
			c.missing = append(c.missing, metric(s))
			continue
		}
		if match[1] != "" { // classic histograms, and the same as native ones under the name without the suffix
			c.missing = append(c.missing, strings.TrimSuffix(metric(s), "_bucket"))
		}
		l, values, err := language.ParseSeriesDesc(s)
		require.NoError(c.t, err, s)
		var samples []metrics.Sample
		for i, v := range values {
			if !v.Omitted {
				samples = append(samples, metrics.Sample{Labels: l, Point: metrics.Point{T: (time.Duration(i) * gap).Milliseconds(), V: v.Value}})
			}
		}
		defined[l.String()] = samples
	}
	for _, samples := range defined {
		require.NoError(c.t, c.store.AppendAll(samples))
	}
}

// metric is the name at the beginning of a series' line.
func metric(line string) string {
	line = strings.TrimPrefix(line, "@st ")
	return line[:strings.IndexAny(line, " \t{")]
}

// held is true when the store has all that an evaluation may be about.
func (c *corpus) held(line string) bool {
	return len(c.missing) == 0 || !strings.Contains(line, model.MetricNameLabel) && !slices.ContainsFunc(c.missing, func(name string) bool {
		return regexp.MustCompile(`\b` + name + `\b`).MatchString(line)
	})
}

// native is true for a line about native histograms or start timestamps, which the store does not hold.
func native(line string) bool { return strings.Contains(line, "{{") || strings.Contains(line, "@st") }

// want is what an evaluation is to give.
type want struct {
	fail, ordered bool
	scalar        *float64
	labels        []labels.Labels
	values        [][]parser.SequenceValue
}

func (c *corpus) eval(line string, number int, expected []string) {
	w, ok := c.expect(expected)
	if !ok || !c.held(line) || native(line) {
		c.skipped++
		return
	}
	where := fmt.Sprintf("%s:%d: %s", c.file, number, line)
	var got promql.Value
	var err error
	start, step := time.UnixMilli(0), time.Duration(0)
	if m := ranged.FindStringSubmatch(line); m != nil {
		w.fail = w.fail || m[1] == "fail"
		from, to := duration(c.t, m[2]), duration(c.t, m[3])
		start, step = start.Add(from), duration(c.t, m[4])
		got, err = c.engine.Range(c.t.Context(), m[5], start, time.UnixMilli(0).Add(to), step)
	} else {
		m := instant.FindStringSubmatch(line)
		require.NotNil(c.t, m, where)
		w.fail, w.ordered = w.fail || m[1] == "fail", w.ordered || m[1] == "ordered"
		start = start.Add(duration(c.t, m[2]))
		got, err = c.engine.Instant(c.t.Context(), m[3], start)
	}
	if err != nil && experimental(err) {
		c.skipped++
		return
	}
	c.evaluated++
	if w.fail {
		require.ErrorIs(c.t, err, promql.ErrQuery, where)
		return
	}
	require.NoError(c.t, err, where)
	compare(c.t, where, w, got, start, step)
}

// experimental is true when the engine refuses a function that it has behind a feature flag.
func experimental(err error) bool {
	return strings.Contains(err.Error(), "is not enabled") || strings.Contains(err.Error(), "experimental")
}

func (c *corpus) expect(expected []string) (w want, ok bool) {
	for _, line := range expected {
		switch {
		case strings.HasPrefix(line, "expect fail"):
			w.fail = true
		case line == "expect ordered":
			w.ordered = true
		case strings.HasPrefix(line, "expect range vector"), strings.HasPrefix(line, "expect string"), native(line):
			return w, false
		case strings.HasPrefix(line, "expect "), strings.HasPrefix(line, "expected_fail"):
		default:
			if n, err := model.ParseDuration(line); err == nil && n != 0 {
				return w, false
			}
			w.add(c.t, line)
		}
	}
	return w, true
}

func (w *want) add(t *testing.T, line string) {
	if n, err := number(line); err == nil {
		w.scalar = &n
		return
	}
	l, values, err := language.ParseSeriesDesc(line)
	require.NoError(t, err, line)
	w.labels, w.values = append(w.labels, l), append(w.values, values)
}

func number(s string) (float64, error) {
	if n, err := parser.NewParser(parser.Options{}).ParseExpr(s); err == nil {
		if literal, ok := n.(*parser.NumberLiteral); ok {
			return literal.Val, nil
		}
	}
	return 0, fmt.Errorf("%q is not a number", s)
}

func compare(t *testing.T, where string, w want, got promql.Value, start time.Time, step time.Duration) {
	if w.scalar != nil {
		n, found := got.One()
		require.Contains(t, []promql.Found{promql.Number, promql.NaN}, found, where)
		same(t, where, *w.scalar, n)
		return
	}
	require.Len(t, got.Series, len(w.labels), "%s\ngot %v", where, got.Series)
	byLabels := map[string][]promql.Point{}
	for i, s := range got.Series {
		key := labels.FromMap(s.Labels).String()
		byLabels[key] = s.Points
		if w.ordered {
			require.Equal(t, w.labels[i].String(), key, where)
		}
	}
	for i, l := range w.labels {
		points, ok := byLabels[l.String()]
		require.True(t, ok, "%s\nno %v in %v", where, l, got.Series)
		var values []float64
		var times []time.Time
		for j, v := range w.values[i] {
			if !v.Omitted {
				values = append(values, v.Value)
				times = append(times, start.Add(time.Duration(j)*step).UTC())
			}
		}
		require.Len(t, points, len(values), where)
		for j, p := range points {
			same(t, where, values[j], p.V)
			require.Equal(t, times[j], p.T, where)
		}
	}
}

// same allows what Prometheus's runner allows: a relative difference of 1e-6.
func same(t *testing.T, where string, want, got float64) {
	if math.IsNaN(want) || math.IsInf(want, 0) || want == 0 {
		require.True(t, want == got || math.IsNaN(want) && math.IsNaN(got) || want == 0 && math.Abs(got) < 1e-6, "%s\nwant %v, got %v", where, want, got)
		return
	}
	require.InEpsilon(t, want, got, 1e-6, where)
}

func duration(t *testing.T, s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := model.ParseDuration(s)
	require.NoError(t, err)
	return time.Duration(d)
}
