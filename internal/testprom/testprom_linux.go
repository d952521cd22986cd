package testprom

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"meshtest.dev/meshtest/internal/testport"
)

// Need skips the test when there is no Prometheus on this machine.
func Need(t *testing.T) (binary string) {
	t.Helper()
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("there is no prometheus on this machine: apt-get install prometheus")
	}
	return binary
}

// Start starts a Prometheus with that configuration, and returns its address when it answers. It ends with the test. Without one on this machine the test is skipped.
func Start(t *testing.T, config string) (url string) {
	t.Helper()
	binary := Need(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := testport.Loopback(t)
	var log strings.Builder
	cmd := exec.Command(binary, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	cmd.Stderr, cmd.SysProcAttr = &log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Log("prometheus says:\n" + log.String())
		}
	})
	await(t, "http://"+address, ended)
	return "http://" + address
}

// await returns when the server is ready.
func await(t *testing.T, url string, ended <-chan struct{}) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := client.Get(url + "/-/ready"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatal("prometheus ended before it answered")
		case <-t.Context().Done():
			t.Fatal("prometheus does not answer")
		}
	}
}
