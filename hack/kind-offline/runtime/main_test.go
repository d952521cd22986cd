package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpecificationsAreFoundInRuncsArguments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ arguments, want []string }{
		"create":  {[]string{"--root", "/run/r", "--log", "/l", "create", "--bundle", "/b", "--pid-file", "/p", "id"}, []string{"/b/config.json"}},
		"run":     {[]string{"run", "-b", "/b", "id"}, []string{"/b/config.json"}},
		"exec":    {[]string{"--root", "/run/r", "exec", "--process", "/tmp/p.json", "--detach", "id"}, []string{"/tmp/p.json"}},
		"joined":  {[]string{"create", "--bundle=/b", "id"}, []string{"/b/config.json"}},
		"neither": {[]string{"--root", "/run/r", "state", "id"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, specifications(c.arguments))
		})
	}
}

func TestMissingCapabilities(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bounding string
		want     map[string]bool
	}{
		"all":              {"000001ffffffffff", map[string]bool{}},
		"no SYS_RESOURCE":  {"000001fffeffffff", map[string]bool{"CAP_SYS_RESOURCE": true}},
		"an older kernel":  {"0000007fffffffff", map[string]bool{"CAP_BPF": true, "CAP_CHECKPOINT_RESTORE": true}},
		"first and second": {"000001fffffffffc", map[string]bool{"CAP_CHOWN": true, "CAP_DAC_OVERRIDE": true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status := filepath.Join(t.TempDir(), "status")
			require.NoError(t, os.WriteFile(status, []byte("Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t"+c.bounding+"\nCapAmb:\t0\n"), 0o600))
			got, err := missingCapabilities(status)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	_, err := missingCapabilities(os.DevNull)
	require.ErrorContains(t, err, "does not say CapBnd")
}

func TestOnlyTheMissingCapabilitiesGo(t *testing.T) {
	t.Parallel()
	missing := map[string]bool{"CAP_SYS_RESOURCE": true}
	const big = `18446744073709551615` // a limit that a float64 cannot hold
	for name, c := range map[string]struct{ before, after string }{
		"a container": {
			`{"process":{"capabilities":{"bounding":["CAP_KILL","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"]},"rlimits":[{"hard":` + big + `}]},"root":{"path":"x"}}`,
			`{"process":{"capabilities":{"bounding":["CAP_KILL"],"effective":[]},"rlimits":[{"hard":` + big + `}]},"root":{"path":"x"}}`,
		},
		"a process":       {`{"args":["sh"],"capabilities":{"bounding":["CAP_SYS_RESOURCE","CAP_KILL"]}}`, `{"args":["sh"],"capabilities":{"bounding":["CAP_KILL"]}}`},
		"no capabilities": {`{"args":["sh"]}`, `{"args":["sh"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "spec.json")
			require.NoError(t, os.WriteFile(file, []byte(c.before), 0o600))
			require.NoError(t, edit(file, missing))
			after, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, c.after, string(after))
		})
	}
	require.Error(t, edit(os.DevNull, missing))
}
