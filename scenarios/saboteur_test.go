package scenarios_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/internal/testbin"
	"meshtest.dev/meshtest/reports"
)

// short makes a roll-out as short as it can be while every part of it still happens.
var short = []string{
	"--set", "rollout.warmup=1s", "--set", "rollout.steps[1].pause.duration=1s", "--set", "rollout.steps[3].pause.duration=1s",
	"--set", "rollout.steps[5].pause.duration=2s", "--set", "rollout.steps[7].pause.duration=1s",
}

// Each self-check has a saboteur: somebody who breaks what it watches. The run has to turn invalid, by the name of the check.
func TestSaboteurs(t *testing.T) {
	tests := []struct {
		name     string
		sabotage string // of the sidecars
		args     []string
		check    string
	}{
		{name: "a sidecar never acknowledges", sabotage: "never-acknowledges", check: "convergence"},
		{name: "a fault does nothing but says it did", sabotage: "idle-fault", check: "fault unavailable"},
		{name: "versions are swapped in the evidence", sabotage: "swapped-versions", check: "split"},
		{name: "sidecars fall silent", sabotage: "silent-evidence", check: "evidence"},
		{
			name: "a fault finds nothing to act on", args: []string{"--set", "faults[0].match.headers.x-nobody.exact=me"},
			check: "fault unavailable",
		},
		{name: "the load falls behind", args: []string{"--set", "load[0].maxInFlight=1"}, check: "load"},
		{
			name: "an application drops the request key", args: []string{"--set", "services.frontend.versions.v1.env.DROP_HEADER=x-request-id"},
			check: "request-keys",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bin := testbin.Dir(t)
			if tt.sabotage != "" {
				bin = testbin.Saboteur(t, tt.sabotage)
			}
			out := filepath.Join(t.TempDir(), "out")
			args := append([]string{"run", "canary-promote", "--progress", "plain", "--out", out}, short...)
			result := testbin.Run(t, bin, "meshtest", nil, append(args, tt.args...)...)
			require.Equal(t, 4, result.Exit, result.Stdout+result.Stderr)
			data, err := os.ReadFile(filepath.Join(out, "report.json"))
			require.NoError(t, err)
			var report reports.Report
			require.NoError(t, json.Unmarshal(data, &report))
			require.Equal(t, "invalid", report.Verdict)
			require.Contains(t, report.Reason, tt.check+": ")
		})
	}
}
