package http2_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/proxy"
)

// known are the cases of h2spec that fail, by package and title, and why that is right. One that passes has to go.
var known = map[string]string{
	"http2/6.9.1: Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream": "" +
		"it wants RST_STREAM; we end the connection, as RFC 9113, 5.4.1 allows: who may make us reset our own streams at will has MadeYouReset (CVE-2025-8671)",
}

// knownPlain are those that fail besides where a caller may speak HTTP/1.1 too.
var knownPlain = map[string]string{
	"http2/3.5: Sends invalid connection preface": "what does not begin with the preface is HTTP/1.1 there, and is answered 400 as such",
}

// TestH2spec runs h2spec's cases, the strict ones too, against a sidecar: by prior knowledge, and over TLS. Those that fail are the known ones, no more and no fewer.
func TestH2spec(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("h2spec is built and run")
	}
	tool := h2spec(t)
	g := newSidecar(t, application(t, "an answer with some bytes for windows to hold back"), proxy.Timeouts{})
	expected := maps.Clone(known)
	maps.Copy(expected, knownPlain)
	for name, c := range map[string]struct {
		address string
		flags   []string
		known   map[string]string
	}{
		"prior knowledge": {g.plain, nil, expected},
		"TLS":             {g.secure, []string{"--tls", "--insecure"}, known},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cases, failed := runH2spec(t, tool, c.address, c.flags...)
			require.GreaterOrEqual(t, cases, 140, "of the 146 cases of version 2.2.1")
			require.ElementsMatch(t, slices.Collect(maps.Keys(c.known)), slices.Collect(maps.Keys(failed)), "%v", failed)
		})
	}
}

// h2spec builds the tool, which is a module of its own in tools/: nothing of ours depends on it.
func h2spec(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "h2spec")
	cmd := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", path, "github.com/summerwind/h2spec/cmd/h2spec")
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "building h2spec: %s", out)
	return path
}

// runH2spec gives the number of cases, and what is said about those that failed.
func runH2spec(t *testing.T, tool, address string, flags ...string) (cases int, failed map[string]string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	report := filepath.Join(t.TempDir(), "report.xml")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, append(flags, "--strict", "--timeout", "10", "--host", host, "--port", port, "--junit-report", report)...)
	out, err := cmd.CombinedOutput()
	if _, is := err.(*exec.ExitError); !is { // it may say by its status that cases failed
		require.NoError(t, err)
	}
	text, err := os.ReadFile(report)
	require.NoError(t, err, "h2spec: %s", out)
	return readReport(t, text)
}

func readReport(t *testing.T, text []byte) (cases int, failed map[string]string) {
	t.Helper()
	type wrong struct {
		Text string `xml:",innerxml"` // h2spec does not escape it
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Package string `xml:"package,attr"`
				Title   string `xml:"classname,attr"`
				Failure *wrong `xml:"failure"`
				Error   *wrong `xml:"error"`
				Skipped *wrong `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	require.NoError(t, xml.NewDecoder(bytes.NewReader(text)).Decode(&report))
	failed = map[string]string{}
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			cases++
			for _, why := range []*wrong{c.Failure, c.Error, c.Skipped} { // a case that was not run shows nothing
				if why != nil {
					failed[c.Package+": "+c.Title] = why.Text
				}
			}
		}
	}
	return cases, failed
}
