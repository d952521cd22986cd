package spec_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/spec"
)

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]spec.Rate{"200/s": 200, "0.5/s": 0.5, "30/m": 0.5, "3600/h": 1} {
		got, err := spec.ParseRate(text)
		require.NoError(t, err, text)
		require.InDelta(t, float64(want), float64(got), 1e-12, text)
	}
	for _, text := range []string{"", "5", "/s", "5/", "5/d", "-5/s", "0/s", "5/s ", "1e3/s", "NaN/s", "Inf/s", "0x5/s", "2000000/s", "5//s"} {
		_, err := spec.ParseRate(text)
		require.Error(t, err, text)
	}
	require.Equal(t, "200/s", spec.Rate(200).String())
	require.Equal(t, "30/m", spec.Rate(0.5).String())
}

func TestParsePercent(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]spec.Percent{"5%": 5, "5": 5, "34.3%": 34.3, "0": 0, "100%": 100, "-1": -1} {
		got, err := spec.ParsePercent(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "%", "5 %", "five", "5%%", "1e2%", "0x1%", "1_0%"} {
		_, err := spec.ParsePercent(text)
		require.Error(t, err, text)
	}
	require.Equal(t, "34.3%", spec.Percent(34.3).String())
	require.InDelta(t, 0.343, spec.Percent(34.3).Share(), 1e-12)
}

func TestParseBound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]spec.Bound{"99": {Percent: 99}, "99.5%": {Percent: 99.5}, "500ms": {Duration: 500 * time.Millisecond, IsDuration: true}} {
		got, err := spec.ParseBound(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	_, err := spec.ParseBound("soon")
	require.Error(t, err)
	require.Equal(t, "500ms", spec.Bound{Duration: 500 * time.Millisecond, IsDuration: true}.String())
	require.Equal(t, "99%", spec.Bound{Percent: 99}.String())
}

func TestExpand(t *testing.T) {
	t.Parallel()
	value := func(r spec.Ref) (string, error) {
		if r.Name == "none" {
			return "", errors.New("no such service")
		}
		return "<" + string(r.Kind) + " " + r.Name + " " + r.Field + ">", nil
	}
	for text, want := range map[string]string{
		"":                                     "",
		"plain $ {text}":                       "plain $ {text}",
		"${seed}":                              "<seed  >",
		"a${service.b.url}/c${self.host}d":     "a<service b url>/c<self  host>d",
		"$${service.b.url} ${external.e.port}": "${service.b.url} <external e port>",
		"$$${seed}":                            "$${seed}",
		"${ self.port }":                       "<self  port>",
	} {
		got, err := spec.Expand(text, value)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"${", "${seed", "${}", "${seed.x}", "${service.b}", "${service.b.c.url}", "${self.url}", "${service.b.name}", "${other.b.url}", "${service.none.url}"} {
		_, err := spec.Expand(text, value)
		require.Error(t, err, text)
	}
	refs, err := spec.References("x ${seed} ${service.b.port}")
	require.NoError(t, err)
	require.Equal(t, []spec.Ref{{Kind: spec.RefSeed, Text: "${seed}", At: 2}, {Kind: spec.RefService, Name: "b", Field: "port", Text: "${service.b.port}", At: 10}}, refs)
}

func TestConditions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		condition string
		result    float64
		want      bool
	}{
		{"result < 500", 499, true}, {"result < 500", 500, false}, {"result >= 0.99 && result <= 1", 1, true},
		{"isNaN(result)", math.NaN(), true}, {"result < 500", math.NaN(), false}, {"isInf(result)", math.Inf(1), true},
		{"asInt(result) == 3", 3.9, true}, {"asFloat('2.5') == result", 2.5, true}, {"default(result, 1) > 1", 2, true}, {"default(nil, 1) == 1", 0, true},
	} {
		c, err := spec.CompileCondition(tc.condition)
		require.NoError(t, err, tc.condition)
		got, err := c.Holds(tc.result)
		require.NoError(t, err, tc.condition)
		require.Equal(t, tc.want, got, tc.condition)
		require.Equal(t, tc.condition, c.String())
	}
	for _, condition := range []string{"", "result", "result <", "reslt < 1", "len(result) > 1", "'a' < 1"} {
		_, err := spec.CompileCondition(condition)
		require.Error(t, err, condition)
	}
	c, err := spec.CompileCondition("asInt('many') > 0")
	require.NoError(t, err)
	_, err = c.Holds(1)
	require.Error(t, err, "a condition that cannot be evaluated is not a verdict")
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	known := []string{"setWeight", "setHeaderRoute", "pause", "analysis"}
	for word, want := range map[string]string{
		"setweight": `did you mean "setWeight"?`, "set-weight": `did you mean "setWeight"?`, "pasue": `did you mean "pause"?`, "analysys": `did you mean "analysis"?`, "setHeader": `did you mean "setHeaderRoute"?`,
		"experiment": "known here: setWeight, setHeaderRoute, pause, analysis", "x": "known here: setWeight, setHeaderRoute, pause, analysis", "": "known here: setWeight, setHeaderRoute, pause, analysis",
	} {
		require.Equal(t, want, spec.Suggest(word, known), word)
	}
	require.Empty(t, spec.Suggest("x", nil))
}

// Terminal escapes in a scenario do not reach the terminal.
func TestTextOutputIsPrintable(t *testing.T) {
	t.Parallel()
	_, diags := spec.Parse("x\x1b[31m.yaml", []byte("apiVersion: \"\x7fa\\u001b[2J\"\nkind: Scenario\n"), spec.Options{})
	require.NotEmpty(t, diags)
	out := text(t, diags, spec.FormatText)
	require.NotContains(t, out, "\x1b")
	require.NotContains(t, out, "\x7f")
}
