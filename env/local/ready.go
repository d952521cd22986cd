//go:build unix

package local

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"meshtest.dev/meshtest/env"
	"meshtest.dev/meshtest/env/local/supervisor"
)

// Bounds of the wait between two looks at an application that is not ready; it doubles.
const (
	firstLook   = 2 * time.Millisecond
	slowestLook = 50 * time.Millisecond
)

// awaitReady returns when the application answers, has ended, or has had its time.
func (m *Mesh) awaitReady(ctx context.Context, in *instance, p *supervisor.Process) error {
	address := net.JoinHostPort(in.host, strconv.Itoa(in.port))
	what := in.name + " to accept connections on " + address
	if in.app.Readiness.Path != "" {
		what = fmt.Sprintf("%s to answer 2xx on http://%s%s", in.name, address, in.app.Readiness.Path)
	}
	defer m.watch.Waiting(what)()
	ready, cancel := context.WithTimeout(ctx, in.app.Readiness.Timeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	last := error(nil)
	for wait := firstLook; ; wait = min(2*wait, slowestLook) {
		if last = look(ready, client, address, in.app.Readiness.Path); last == nil {
			m.watch.Process(env.Process{Name: in.name, PID: p.PID, Address: address, State: env.ProcessReady})
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			continue
		case <-p.Done():
			timer.Stop()
			return m.notReady(in, "it ended: "+p.Exit().String())
		case <-ready.Done():
			timer.Stop()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return m.notReady(in, fmt.Sprintf("waited %s for %s: %v (a program has to listen on $HOST:$PORT)", in.app.Readiness.Timeout, what, last))
	}
}

// look asks once.
func look(ctx context.Context, client *http.Client, address, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if path == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}

func (m *Mesh) notReady(in *instance, reason string) error {
	return &env.NotReady{Workload: in.app.Workload, Reason: reason, Log: tail(m.logFile(in.name))}
}

// Bounds of what is quoted of a log.
const (
	tailLines = 10
	tailBytes = 8 << 10
)

// tail is the end of a log.
func tail(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, err = f.Seek(max(end-tailBytes, 0), io.SeekStart)
		if err != nil {
			return nil
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return lines[max(len(lines)-tailLines, 0):]
}

func tailText(path string) string {
	text := ""
	for _, line := range tail(path) {
		text += "\n  | " + line
	}
	return text
}
