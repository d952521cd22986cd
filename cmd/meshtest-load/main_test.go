package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/agent"
)

// asCommand makes the test binary the command, asDriver a run that has the agent at its first argument load the server at its second, for ever.
const (
	asCommand = "LOAD_TEST_COMMAND"
	asDriver  = "LOAD_TEST_DRIVER"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asCommand) != "":
		main()
	case os.Getenv(asDriver) != "":
		drive(os.Args[1], os.Args[2])
	}
	os.Exit(m.Run())
}

func drive(agent, shop string) {
	rate, err := load.Constant(500)
	if err == nil {
		_, err = client(agent).Run(context.Background(), load.Stream{Name: "users", URL: "http://shop", Address: shop, Pacer: rate}, nil)
	}
	fmt.Fprintln(os.Stderr, "the load ended:", err)
	os.Exit(1)
}

func TestCalls(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for name, test := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"version":         {[]string{"version"}, 0, "protocol " + agent.Version, ""},
		"--version":       {[]string{"--version"}, 0, "meshtest-load ", ""},
		"help":            {[]string{"--help"}, 0, "Usage:", ""},
		"help of serve":   {[]string{"serve", "-h"}, 0, "--token-file", ""},
		"nothing":         {nil, 2, "", "serve or version"},
		"unknown":         {[]string{"send"}, 2, "", `unknown command "send"`},
		"no address":      {[]string{"serve"}, 2, "", "--listen is missing"},
		"an argument":     {[]string{"serve", "--listen", ":0", "x"}, 2, "", `unexpected argument "x"`},
		"a secret":        {[]string{"serve", "--token", "x"}, 2, "", "not defined: -token"},
		"an odd level":    {[]string{"serve", "--log-level", "loud"}, 2, "", "log-level"},
		"no token":        {[]string{"serve", "--listen", "127.0.0.1:0"}, 1, "", "there is no token in " + tokenVariable},
		"an empty token":  {[]string{"serve", "--listen", "127.0.0.1:0", "--token-file", empty}, 1, "", "there is no token in " + empty},
		"no token's file": {[]string{"serve", "--listen", "127.0.0.1:0", "--token-file", empty + "x"}, 1, "", "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			code := command(t.Context(), test.args, func(string) string { return "" }, &stdout, &stderr)
			require.Equal(t, test.code, code, stderr.String())
			require.Contains(t, stdout.String(), test.stdout)
			require.Contains(t, stderr.String(), test.stderr)
			require.Equal(t, test.stderr == "", stderr.Len() == 0, stderr.String())
		})
	}
}

func TestThePlaceIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var stdout, stderr bytes.Buffer
	code := command(t.Context(), []string{"serve", "--listen", l.Addr().String()}, func(string) string { return "t" }, &stdout, &stderr)
	require.Equal(t, 1, code)
	require.Contains(t, stderr.String(), "address already in use")
}

// serving starts the command as a process, waits until it serves, and returns where.
func serving(t *testing.T) (*exec.Cmd, string, *bufio.Scanner) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("a secret of the test\n"), 0o400))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "serve", "--listen", "127.0.0.1:0", "--token-file", token)
	cmd.Env = []string{asCommand + "=1"}
	out, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	return cmd, next(t, lines, "serving")["address"].(string), lines
}

// next reads the log up to a message.
func next(t *testing.T, lines *bufio.Scanner, msg string) map[string]any {
	t.Helper()
	for lines.Scan() {
		entry := map[string]any{}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &entry), "%s", lines.Text())
		require.NotContains(t, lines.Text(), "secret")
		if entry["msg"] == msg {
			return entry
		}
	}
	require.Fail(t, "the log ended", "before %q: %v", msg, lines.Err())
	return nil
}

func client(address string) agent.Client {
	return agent.Client{Token: "a secret of the test", Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}
}

func TestAProcessSendsLoadUntilItIsStopped(t *testing.T) {
	t.Parallel()
	cmd, address, log := serving(t)
	arrived := make(chan struct{}, 1)
	shop := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case arrived <- struct{}{}:
		default:
		}
	}))
	defer shop.Close()
	rate, err := load.Constant(200)
	require.NoError(t, err)
	s := load.Stream{
		Name: "users", URL: "http://shop", Address: shop.Listener.Addr().String(), Pacer: rate, Duration: 250 * time.Millisecond,
		Grace: 30 * time.Second, Headers: http.Header{"Authorization": {"secret"}},
	}
	got, err := client(address).Run(t.Context(), s, nil)
	require.NoError(t, err)
	require.EqualValues(t, 50, got.OK.Count())
	require.Equal(t, 50., next(t, log, "load ended")["sent"])

	<-arrived
	s.Duration = 0
	ended := make(chan error, 1)
	go func() {
		_, err := client(address).Run(t.Context(), s, nil)
		ended <- err
	}()
	<-arrived
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.ErrorIs(t, <-ended, agent.ErrLost)
	next(t, log, "stopped as asked")
	require.NoError(t, cmd.Wait())
}

// A run that is killed with SIGKILL leaves no load running.
func TestTheDriverIsKilled(t *testing.T) {
	t.Parallel()
	served, address, log := serving(t)
	arrived := make(chan struct{}, 1)
	var requests atomic.Int64
	shop := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		requests.Add(1)
		select {
		case arrived <- struct{}{}:
		default:
		}
	}))
	defer shop.Close()
	driver := exec.CommandContext(t.Context(), os.Args[0], address, shop.Listener.Addr().String())
	driver.Env = []string{asDriver + "=1"}
	driver.Stderr = os.Stderr
	require.NoError(t, driver.Start())
	for range 3 {
		<-arrived
	}
	require.NoError(t, driver.Process.Kill())
	require.Error(t, driver.Wait())
	next(t, log, "load given up: its driver is gone")
	shop.CloseClientConnections()
	left := requests.Load()

	rate, err := load.Constant(10)
	require.NoError(t, err)
	got, err := client(address).Run(t.Context(), load.Stream{
		Name: "others", URL: "http://shop", Address: shop.Listener.Addr().String(), Pacer: rate, Duration: time.Second, Grace: 30 * time.Second,
	}, nil)
	require.NoError(t, err)
	require.InDelta(t, left+int64(got.Sent), requests.Load(), 50, "in a second nobody else has sent anything, but for what was under way; it would be 500")
	require.NoError(t, served.Process.Signal(syscall.SIGTERM))
	next(t, log, "stopped as asked")
	require.NoError(t, served.Wait())
}
