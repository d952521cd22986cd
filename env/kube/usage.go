package kube

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"meshtest.dev/meshtest/env"
)

// usageTimeout bounds how long one sidecar may take to say what it has used.
const usageTimeout = 2 * time.Second

// Usage is what each sidecar says that it has used. One that does not answer is left out.
func (m *Mesh) Usage() map[string]env.Usage {
	ctx, cancel := context.WithTimeout(context.Background(), usageTimeout)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	usage := map[string]env.Usage{}
	for _, s := range m.Sidecars() {
		asking.Go(func() {
			u, err := usageOf(ctx, s)
			if err == nil {
				mu.Lock()
				usage[s.Process] = u
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	return usage
}

func usageOf(ctx context.Context, s env.Sidecar) (env.Usage, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Metrics.Dial(ctx) }}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Metrics.URL, nil)
	if err != nil {
		return env.Usage{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return env.Usage{}, err
	}
	defer response.Body.Close()
	return parseUsage(response.Body)
}

// parseUsage finds the two metrics of a process in an exposition.
func parseUsage(r io.Reader) (u env.Usage, err error) {
	cpu, rss := false, false
	for scanner := bufio.NewScanner(r); scanner.Scan(); {
		name, text, _ := strings.Cut(scanner.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil:
		case name == "process_cpu_seconds_total":
			u.CPU, cpu = time.Duration(value*float64(time.Second)), true
		case name == "process_resident_memory_bytes":
			u.RSS, rss = int64(value), true
		}
	}
	if !cpu || !rss {
		return u, fmt.Errorf("the metrics say nothing of the process")
	}
	return u, nil
}
