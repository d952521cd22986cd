package proxy

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testport"
	"meshtest.dev/meshtest/mesh"
)

// changing is a rig whose one listener is now for this and now for that: the backend, whose answer is "backend", requests by http_proxy, the workload itself, whose answer is "app", or TCP to it.
func changing(t *testing.T) (r *rig, at string, become func(what string)) {
	backend, app := newOrigin(t, answering(200, "backend")), newOrigin(t, answering(200, "app"))
	r = newRig(t, nil)
	host := r.service("backend", mesh.HTTP, map[string][]string{"v1": {backend.address}})
	at = testport.Loopback(t)
	return r, at, func(what string) {
		t.Helper()
		r.inbound.Proxy, r.inbound.Outbound, r.inbound.Listen = "", nil, nil
		switch what {
		case "outbound":
			r.inbound.Outbound = []mesh.OutboundPort{{Bind: at, Host: host, Port: 80, Protocol: mesh.HTTP}}
		case "http_proxy":
			r.inbound.Proxy = at
		case "inbound":
			r.inbound.Listen = []mesh.InboundPort{{Bind: at, Port: 80, App: app.address, Protocol: mesh.HTTP}}
		case "tcp":
			r.inbound.Listen = []mesh.InboundPort{{Bind: at, Port: 80, App: app.address, Protocol: mesh.TCP}}
		}
		r.apply()
	}
}

// A listener may be for something else from one configuration to the next.
func TestListenerChangesWhatItIsFor(t *testing.T) {
	t.Parallel()
	says := map[string]string{"outbound": "backend", "http_proxy": "backend", "inbound": "app", "tcp": "app"}
	for before := range says {
		for after, want := range says {
			t.Run(before+" to "+after, func(t *testing.T) {
				t.Parallel()
				_, at, become := changing(t)
				become(before)
				kept := call(t, at)
				_, body := kept.get("/")
				require.Equal(t, says[before], body)
				become(after)
				_, body = call(t, at).get("/")
				require.Equal(t, want, body)
				_, body = kept.get("/")
				require.Equal(t, says[before], body, "whoever was connected is served, and hears that it was the last time")
			})
		}
	}
}

// Requests of the workload go on where they were: what they are for is found out for each.
func TestKeptConnectionFollowsItsListener(t *testing.T) {
	t.Parallel()
	r, at, become := changing(t)
	become("outbound")
	kept := call(t, at)
	kept.get("/")
	become("http_proxy")
	kept.say("GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
	resp, _ := kept.reply("GET")
	require.Equal(t, ReasonUnknownHost, resp.Header.Get(mesh.HeaderReason))
	require.False(t, resp.Close)
	become("outbound")
	kept.say("GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n")
	resp, body := kept.reply("GET")
	require.Equal(t, "backend", body)
	require.False(t, resp.Close)
	require.Equal(t, 1, r.srv.connections())
}

// Nobody notices that a listener becomes one for something else, if it makes no difference to him.
func TestNoConnectionIsLostWhenAListenerChanges(t *testing.T) {
	t.Parallel()
	_, at, become := changing(t)
	become("outbound")
	var callers sync.WaitGroup
	var done atomic.Bool
	var sent atomic.Int64
	failures := make(chan error, 4)
	for range cap(failures) {
		callers.Go(func() {
			for !done.Load() {
				if err := getOnce(at); err != nil {
					failures <- err
					return
				}
				sent.Add(1)
			}
		})
	}
	for range 20 {
		for _, what := range []string{"http_proxy", "outbound"} {
			before := sent.Load()
			become(what)
			require.Eventually(t, func() bool { return sent.Load() > before || len(failures) > 0 }, patience, time.Millisecond)
		}
	}
	done.Store(true)
	callers.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
}

// getOnce sends one request on a connection of its own.
func getOnce(at string) error {
	c, err := net.DialTimeout("tcp", at, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: backend\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && (len(answer) < 12 || string(answer[:12]) != "HTTP/1.1 200") {
		err = fmt.Errorf("%q", answer)
	}
	return err
}
