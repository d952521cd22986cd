package main

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/rules"
)

func TestWhatWrkSays(t *testing.T) {
	t.Parallel()
	const good = `Running 2s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms  512.00us  12.40ms   91.02%
    Req/Sec    31.52k     2.01k   34.01k    75.00%
  63018 requests in 2.00s, 74.52MB read
`
	n, err := readWrk([]byte(good))
	require.NoError(t, err)
	require.EqualValues(t, 63018, n)

	for text, want := range map[string]string{
		good + "  Socket errors: connect 0, read 3, write 0, timeout 0\n": "read 3",
		good + "  Non-2xx or 3xx responses: 17\n":                         "Non-2xx or 3xx responses: 17",
		strings.Replace(good, "63018", "0", 1):                            "not one request",
		"unable to connect to 127.0.0.1:1 Connection refused":             "Connection refused",
	} {
		_, err := readWrk([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

func TestWhatH2loadSays(t *testing.T) {
	t.Parallel()
	const good = `finished in 2.00s, 21004.50 req/s, 21.58MB/s
requests: 42009 total, 42089 started, 42009 done, 42009 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 42009 2xx, 0 3xx, 0 4xx, 0 5xx
`
	n, err := readH2load([]byte(good))
	require.NoError(t, err)
	require.EqualValues(t, 42009, n)

	for text, want := range map[string]string{
		strings.Replace(good, "42009 succeeded, 0 failed", "42000 succeeded, 9 failed", 1): "9 failed",
		strings.Replace(good, "0 errored", "2 errored", 1):                                 "2 errored",
		strings.Replace(good, "0 timeout", "1 timeout", 1):                                 "1 timeout",
		strings.Replace(good, "42009 succeeded", "0 succeeded", 1):                         "not one request",
		"nonsense": "nonsense",
	} {
		_, err := readH2load([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

func TestWhatPerfSays(t *testing.T) {
	t.Parallel()
	counted, err := readPerf(`# started on Sat Nov 21
112,,raw_syscalls:sys_enter,2001000,100.00,,
60,,syscalls:sys_enter_recvfrom,2001000,100.00,,
20,,syscalls:sys_exit_recvfrom,2001000,100.00,,
40,,syscalls:sys_enter_sendto,2001000,100.00,,
0,,syscalls:sys_exit_sendto,2001000,100.00,,
`)
	require.NoError(t, err)
	require.Equal(t, calls{"recvfrom": {60, 20}, "sendto": {40, 0}, others: {made: 12}}, counted)
	require.EqualValues(t, 112, counted.all())
	require.EqualValues(t, 40, counted.moved(readers))
	require.EqualValues(t, 40, counted.moved(writers))

	_, err = readPerf("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n")
	require.ErrorContains(t, err, "did not count raw_syscalls:sys_enter")
	_, err = readPerf("")
	require.ErrorContains(t, err, "did not count system calls")
}

func TestWhatStraceSays(t *testing.T) {
	t.Parallel()
	counted, err := readStrace(`strace: Process 4242 attached with 5 threads
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.44    0.100000          12      6000      2000 recvfrom
 38.00    0.060000          15      4000           sendto
  0.56    0.000001           1        12        12 futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.160001          15     10012      2012 total
`)
	require.NoError(t, err)
	require.Equal(t, calls{"recvfrom": {6000, 2000}, "sendto": {4000, 0}, "futex": {12, 12}}, counted)
	_, err = readStrace("strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted\n")
	require.ErrorContains(t, err, "not permitted")
}

func TestDifferencesAreWithoutConnections(t *testing.T) {
	t.Parallel()
	long := calls{"recvfrom": {900, 300}, "accept4": {32, 1}, "futex": {3, 0}}
	short := calls{"recvfrom": {300, 100}, "accept4": {32, 2}, "futex": {5, 0}}
	require.Equal(t, calls{"recvfrom": {600, 200}, "accept4": {0, 0}, "futex": {0, 0}}, long.minus(short))
	require.Equal(t, long, long.minus(calls{}))
	require.Equal(t, "recvfrom 3.00/1.00", tally{requests: 200, calls: long.minus(short)}.frequent())
}

func TestFigures(t *testing.T) {
	t.Parallel()
	require.Zero(t, median(nil))
	require.Equal(t, 2.0, median([]float64{9, 1, 2}))
	require.Equal(t, 2.5, median([]float64{9, 1, 2, 3}))
	ours := []sample{{100, time.Second, time.Millisecond}, {200, time.Second, time.Millisecond}, {1, time.Second, time.Second}}
	peers := []sample{{100, time.Second, 2 * time.Millisecond}, {100, time.Second, time.Millisecond}}
	require.Equal(t, []float64{10, 5, 1e6}, costs(ours))
	require.Equal(t, []float64{0.5, 0.5}, ratios(ours, peers), "a round that a peer has not had is no ratio")
	require.Equal(t, 100.0, capacity(ours))
	require.Equal(t, "2.5 [1.0 9.0]", spread([]float64{9, 1, 2, 3}, "%.1f"))
	require.Equal(t, "2.0", spread([]float64{2}, "%.1f"))
}

func TestBars(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		bar  bar
		want string
	}{
		{bar{figures: []float64{0.5, 9, 1.004}, atMost: 1, digits: 2}, "met"},
		{bar{figures: []float64{0.5, 9, 1.006}, atMost: 1, digits: 2}, "not met"},
		{bar{figures: []float64{2.04}, atMost: 2, digits: 1}, "met"},
		{bar{figures: []float64{2.06}, atMost: 2, digits: 1}, "not met"},
		{bar{atMost: 2}, "not measured"},
		{bar{atMost: 2, why: missing("wrk")}, "not measured: wrk is not installed"},
	} {
		require.Equal(t, test.want, test.bar.verdict(), test.bar)
	}
	require.NoError(t, expected(missing("wrk")))
	require.Error(t, expected(errors.New("broken")))
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n"
	answers := bufio.NewReader(strings.NewReader(head + originBody + head + originBody[1:]))
	require.NoError(t, readAnswer(answers))
	require.ErrorIs(t, readAnswer(answers), io.EOF, "one byte is missing")
	require.ErrorContains(t, readAnswer(bufio.NewReader(strings.NewReader("HTTP/1.1 503 Service Unavailable\r\n\r\n"))), "503")
}

// Whoever the programs are that read them, the files say the same of all contenders.
func TestFilesAreMadeForPlainAndForTLS(t *testing.T) {
	t.Parallel()
	b := &bed{dir: t.TempDir(), threads: 3}
	for _, from := range []string{"sidecar.yaml", "haproxy.cfg", "nginx.conf"} {
		for _, secure := range []bool{false, true} {
			path, err := b.write("file", from, map[string]any{
				"Dir": b.dir, "Name": "n", "Host": host, "Threads": b.threads, "HTTP1": "127.0.0.1:1", "HTTP2": "127.0.0.1:2", "Stable": "127.0.0.1:3", "Canary": "127.0.0.1:4", "TLS": secure,
			})
			require.NoError(t, err, from)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, secure, bytes.Contains(text, []byte("ca.pem")), "%s checks the origin's certificate with TLS, and only then", from)
			require.Contains(t, string(text), testerValue, from)
			require.NotContains(t, string(text), "<no value>", from)
		}
	}
}

func TestManyRules(t *testing.T) {
	t.Parallel()
	b := &bed{dir: t.TempDir()}
	path, err := b.write("many.yaml", "many.yaml", map[string]any{"Services": manyRules()})
	require.NoError(t, err)
	s, err := compile(path)
	require.NoError(t, err)
	require.Len(t, s.Routes, manyServices)
	different := map[string]bool{}
	for _, all := range s.Endpoints {
		for _, e := range all.Endpoints {
			different[e.Address] = true
		}
	}
	require.Len(t, different, 2*manyServices)
	require.Empty(t, s.Validate())
}

func TestTheOriginsCertificateIsOfItsAuthority(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, certify(dir, host))
	roots := x509.NewCertPool()
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	require.NoError(t, err)
	require.True(t, roots.AppendCertsFromPEM(authority))
	text, err := os.ReadFile(filepath.Join(dir, "origin.pem"))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots})
	require.NoError(t, err)
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: "other", Roots: roots})
	require.Error(t, err)
}

func TestParentOfAProcessWithAStrangeName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "stat")
	require.NoError(t, os.WriteFile(path, []byte("17 (a) b (c) S 16 17 17 0\n"), 0o600))
	pid, parent, err := parentOf(path)
	require.NoError(t, err)
	require.Equal(t, []int{17, 16}, []int{pid, parent})
	require.NoError(t, os.WriteFile(path, []byte("17 (a"), 0o600))
	_, _, err = parentOf(path)
	require.Error(t, err)
}

func TestRulesOfTheSidecar(t *testing.T) {
	t.Parallel()
	b := &bed{dir: t.TempDir()}
	require.NoError(t, certify(b.dir, host))
	for _, secure := range []bool{false, true} {
		path, err := b.write("rules.yaml", "sidecar.yaml", map[string]any{"Host": host, "Stable": "127.0.0.1:3", "Canary": "127.0.0.1:4", "TLS": secure})
		require.NoError(t, err)
		docs, _, err := rules.Load([]string{path})
		require.NoError(t, err)
		compiled, problems := rules.Compile(docs, mesh.DefaultNamespace, rules.Beside([]string{path}, nil))
		require.Empty(t, problems)
		tls := compiled.Snapshot.Services[host].Traffic.TLS
		require.Equal(t, secure, tls != nil)
		if secure {
			require.Equal(t, mesh.SimpleTLS, tls.Mode)
			require.False(t, tls.Insecure)
			require.NotEmpty(t, tls.Roots)
		}
	}
}
