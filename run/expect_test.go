package run

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is expected of the attempts of requests is compared with what their callers told.
func TestExpectedAttempts(t *testing.T) {
	for bounds, want := range map[string]Verdict{
		"min: 1, max: 1":                Passed,
		"min: 1.5":                      Failed,
		"max: 0.9":                      Failed,
		"min: 1, version: v1":           Passed,
		"max: 1, from: frontend":        Passed,
		"max: 1, from: edge":            Inconclusive, // the edge does not call it
		"min: 1, load: users, max: 2.5": Passed,
	} {
		t.Run(bounds, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				o := w.perform(t.Context(), strings.Replace(smoke, "successRate: {min: 99%}", "attempts: {to: backend, "+bounds+"}", 1))
				require.Equal(t, want, o.Verdict, o.Reason)
			})
		})
	}
}
