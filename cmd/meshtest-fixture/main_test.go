package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/fixture/names"
)

// asCommand makes the test binary the command.
const asCommand = "FIXTURE_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestCalls(t *testing.T) {
	t.Setenv("PORT", "x")
	t.Setenv("ERROR_RATE", "5%")
	tests := map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"version":         {[]string{"version"}, 0, "meshtest-fixture ", ""},
		"help":            {[]string{"--help"}, 0, "chain ", ""},
		"help of chain":   {[]string{"chain", "--help"}, 0, "UPSTREAM_URI", ""},
		"help of time":    {[]string{"time", "-h"}, 0, "LATENCY_MEDIAN", ""},
		"nothing":         {[]string{}, 2, "", "name an application"},
		"unknown":         {[]string{"books"}, 2, "", `unknown command "books"`},
		"an argument":     {[]string{"chain", "x"}, 2, "", "unknown command"},
		"an unknown flag": {[]string{"time", "--port", "1"}, 2, "", "unknown flag: --port"},
		"first mistake":   {[]string{"time"}, 2, "", `PORT: "x": want`},
		"second mistake":  {[]string{"echo"}, 2, "", `ERROR_RATE: "5%": want`},
		"third mistake":   {[]string{"chain"}, 2, "", "SERVICE_NAME: must be set"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, test.code, run(t.Context(), test.args, &stdout, &stderr), stderr.String())
			require.Contains(t, stdout.String(), test.stdout)
			require.Contains(t, stderr.String(), test.stderr)
			require.Equal(t, test.stderr == "", stderr.Len() == 0, stderr.String())
			require.Equal(t, test.stdout == "", stdout.Len() == 0, stdout.String())
		})
	}
}

func TestEveryApplicationHasItsName(t *testing.T) {
	t.Parallel()
	var got []string
	for _, cmd := range command().Commands() {
		if cmd.Name() != "version" && cmd.Name() != "help" {
			got = append(got, cmd.Name())
		}
	}
	require.ElementsMatch(t, names.All(), got)
}

var listening = regexp.MustCompile(`listening.* address=(\S+)`)

// start runs the command in a process of its own until it listens.
func start(t *testing.T, app string, env ...string) (cmd *exec.Cmd, url string) {
	cmd = exec.Command("/proc/self/exe", app)
	cmd.Env = append(env, asCommand+"=1", "PORT=0")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if found := listening.FindStringSubmatch(lines.Text()); found != nil {
			go io.Copy(io.Discard, stderr)
			return cmd, "http://" + found[1]
		}
	}
	t.Fatal("it did not listen")
	return nil, ""
}

func get(t *testing.T, url string) (int, string) {
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func TestSIGTERM(t *testing.T) {
	t.Parallel()
	cmd, url := start(t, "chain", "SERVICE_NAME=backend", "SERVICE_VERSION=v2")
	status, body := get(t, url)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "backend-v2\n", body)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "exit code 0")
}

func TestCrash(t *testing.T) {
	t.Parallel()
	cmd, url := start(t, "time", "CRASH_AFTER=2")
	for range 2 {
		status, _ := get(t, url)
		require.Equal(t, http.StatusOK, status)
	}
	require.Error(t, cmd.Wait())
	require.Equal(t, 3, cmd.ProcessState.ExitCode())
}

func TestAPortThatIsTaken(t *testing.T) {
	t.Parallel()
	_, url := start(t, "echo")
	port := regexp.MustCompile(`\d+$`).FindString(url)
	second := exec.Command("/proc/self/exe", "echo")
	second.Env = []string{asCommand + "=1", "PORT=" + port}
	output, err := second.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 1, second.ProcessState.ExitCode())
	require.Contains(t, string(output), "meshtest-fixture: starting echo-v1: listen tcp 127.0.0.1:"+port)
}
