package metrics

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// A Gateway shows targets to a Prometheus outside, which could not reach them: a sidecar's metrics are behind a Unix socket, or in a pod. It is no federation: each scrape of a target is passed on as
// it is, so that `up`, timestamps and labels are what they would be without it.
//
//	GET /targets       the targets, for http_sd_configs
//	GET /metrics/NAME  the metrics of one
//
// It only tells, and only those who name it by an address or as localhost: a web page of another origin cannot read it.
type Gateway struct {
	mu      sync.Mutex
	targets map[string]*shown // by name
}

// shown is a target behind a gateway.
type shown struct {
	target Target
	client *http.Client
}

// NewGateway returns a gateway without targets.
func NewGateway() *Gateway { return &Gateway{targets: map[string]*shown{}} }

// Add shows a target by a name until remove is called. One of the same name takes the place of the one before. Prometheus gives it the target's labels.
func (g *Gateway) Add(name string, t Target) (remove func(), err error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	t = t.withDefaults()
	added := &shown{t, t.client()}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.targets[name] = added
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.targets[name] == added {
			delete(g.targets, name)
		}
		added.client.CloseIdleConnections()
	}, nil
}

// ServeHTTP answers a Prometheus.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, metrics := strings.CutPrefix(r.URL.Path, "/metrics/")
	switch {
	case r.Header.Get("Origin") != "" || !isLocalName(r.Host):
		http.Error(w, "this is for a Prometheus that calls an address, and for no web page", http.StatusForbidden)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case r.URL.Path == "/targets":
		g.serveTargets(w, r)
	case metrics:
		g.serveMetrics(w, r, name)
	default:
		http.Error(w, "there are /targets and /metrics/NAME", http.StatusNotFound)
	}
}

// isLocalName reports whether a name server has no say in the host: it is an address, or localhost.
func isLocalName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	_, err = netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost"
}

// group is a group of targets as http_sd_configs reads them.
type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// serveTargets tells where each target is: at the gateway itself, as whoever asks calls it.
func (g *Gateway) serveTargets(w http.ResponseWriter, r *http.Request) {
	groups := []group{}
	g.mu.Lock()
	for name, s := range g.targets {
		labels := map[string]string{"__metrics_path__": "/metrics/" + url.PathEscape(name)}
		for k, v := range s.target.Labels {
			labels[k] = v
		}
		groups = append(groups, group{[]string{r.Host}, labels})
	}
	g.mu.Unlock()
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Compare(a.Labels["__metrics_path__"], b.Labels["__metrics_path__"])
	})
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(groups) // the reader has gone: his loss
}

func (g *Gateway) serveMetrics(w http.ResponseWriter, r *http.Request, name string) {
	g.mu.Lock()
	s := g.targets[name]
	g.mu.Unlock()
	if s == nil {
		http.Error(w, fmt.Sprintf("there is no target %q", name), http.StatusNotFound)
		return
	}
	body, contentType, err := s.target.fetch(r.Context(), s.client)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(body) // the reader has gone: his loss
}
