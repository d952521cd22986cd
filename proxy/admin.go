package proxy

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/telemetry"
)

// question is one that Admin answers.
type question struct {
	method, path string
	says         string // what the answer says
	answer       http.HandlerFunc
}

// Admin answers questions about the server, for whoever may connect to where it is served: the index at / lists them.
//
// The level may be nil.
func (s *Server) Admin(level *slog.LevelVar) http.Handler {
	var questions []question
	questions = []question{
		{"GET", "/", "this index", func(w http.ResponseWriter, _ *http.Request) { writeIndex(w, questions) }},
		{"GET", "/ready", "200 when it listens on what its configuration says, else 503", s.ServeReady},
		{"GET", "/metrics", "Istio's standard metrics, the sidecar's own and the process's, for Prometheus", s.ServeMetrics},
		{"GET", "/stats", "the sidecar's own metrics", func(w http.ResponseWriter, _ *http.Request) { writeText(w, s.appendStats(nil)) }},
		{"GET", "/config_dump", "the configuration in force, as JSON, without private keys", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.dump()) }},
		{"GET", "/clusters", "the endpoints, their connections and their health, as JSON", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.clusters()) }},
		{"GET", "/logging", "the log level", func(w http.ResponseWriter, _ *http.Request) { writeLevel(w, level) }},
		{"POST", "/logging", "?level=debug, info, warn or error: sets the log level", func(w http.ResponseWriter, r *http.Request) { setLevel(w, r, level) }},
	}
	mux := http.NewServeMux()
	for _, q := range questions {
		pattern := q.method + " " + q.path
		if q.path == "/" {
			pattern += "{$}" // and not what nobody answers
		}
		mux.HandleFunc(pattern, q.answer)
	}
	return mux
}

func writeIndex(w http.ResponseWriter, questions []question) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, q := range questions {
		fmt.Fprintf(w, "%-4s %-13s %s\n", q.method, q.path, q.says)
	}
}

// ServeMetrics answers with Istio's standard metrics, the sidecar's own and the process's, for Prometheus.
func (s *Server) ServeMetrics(w http.ResponseWriter, _ *http.Request) {
	writeText(w, appendProcess(s.appendStats(s.opts.Metrics.AppendText(nil))))
}

// ServeReady answers 200 when the server listens on what its configuration says, else 503.
func (s *Server) ServeReady(w http.ResponseWriter, _ *http.Request) {
	if !s.Ready() {
		http.Error(w, "there is no configuration yet, or the sidecar is stopping", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready", s.Generation())
}

// Dump is the answer to /config_dump.
type Dump struct {
	Instance   string          `json:"instance"`
	Generation mesh.Generation `json:"generation"`
	Snapshot   *mesh.Snapshot  `json:"snapshot"`
}

func (s *Server) dump() Dump {
	c := s.config.Load()
	return Dump{Instance: s.opts.Workload.Instance, Generation: c.generation, Snapshot: withoutKeys(c.snapshot)}
}

// hidden takes the place of what only those may see who have it already.
const hidden = "(hidden)"

// withoutKeys is a configuration whose private keys are hidden; what has none is shared.
func withoutKeys(s *mesh.Snapshot) *mesh.Snapshot {
	out := s.Clone()
	for host, had := range s.Services {
		svc := *had
		svc.Traffic = policyWithoutKey(svc.Traffic)
		svc.Subsets = slices.Clone(svc.Subsets)
		for i, subset := range svc.Subsets {
			if subset.Traffic != nil {
				policy := policyWithoutKey(*subset.Traffic)
				svc.Subsets[i].Traffic = &policy
			}
		}
		svc.Ports = slices.Clone(svc.Ports)
		for i, p := range svc.Ports {
			if p.TLS != nil {
				t := *p.TLS
				t.Certificates = slices.Clone(t.Certificates)
				for j := range t.Certificates {
					t.Certificates[j].PrivateKey = hidden
				}
				svc.Ports[i].TLS = &t
			}
		}
		out.Services[host] = &svc
	}
	return out
}

func policyWithoutKey(p mesh.TrafficPolicy) mesh.TrafficPolicy {
	if p.TLS != nil && p.TLS.PrivateKey != "" {
		t := *p.TLS
		t.PrivateKey = hidden
		p.TLS = &t
	}
	return p
}

func writeText(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", telemetry.ContentType)
	_, _ = w.Write(b) // the reader has gone: his loss
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}

func writeLevel(w http.ResponseWriter, level *slog.LevelVar) {
	if level == nil {
		http.Error(w, "the log has no level to tell", http.StatusNotFound)
		return
	}
	fmt.Fprintln(w, level.Level())
}

func setLevel(w http.ResponseWriter, r *http.Request, level *slog.LevelVar) {
	var next slog.Level
	if err := next.UnmarshalText([]byte(r.URL.Query().Get("level"))); err != nil || level == nil {
		http.Error(w, "level has to be debug, info, warn or error", http.StatusBadRequest)
		return
	}
	level.Set(next)
	writeLevel(w, level)
}

// appendProcess appends the process's metrics, under the names that Prometheus' own clients use.
func appendProcess(b []byte) []byte {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		seconds := float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
		b = fmt.Appendf(b, "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %g\n", seconds)
	}
	if resident, ok := residentBytes(); ok {
		b = fmt.Appendf(b, "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %d\n", resident)
	}
	return fmt.Appendf(b, "# TYPE go_goroutines gauge\ngo_goroutines %d\n", runtime.NumGoroutine())
}

// residentBytes reads the resident set from proc, where there is such a thing.
func residentBytes() (bytes int, ok bool) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.Atoi(fields[1])
	return pages * os.Getpagesize(), err == nil
}
