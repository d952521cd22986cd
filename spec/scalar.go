package spec

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is a number of requests per second, written as a count per unit: 200/s, 50/m, 3600/h.
type Rate float64

// ParseRate parses COUNT/s, COUNT/m or COUNT/h. The rate must be positive and at most a million a second.
func ParseRate(text string) (Rate, error) {
	count, unit, ok := strings.Cut(text, "/")
	if !ok {
		return 0, errors.New("a rate is a count per unit of time")
	}
	seconds, ok := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if !ok {
		return 0, fmt.Errorf("unknown unit %q", unit)
	}
	n, err := parseDecimal(count)
	if err != nil {
		return 0, err
	}
	if r := n / seconds; r > 0 && r <= 1e6 {
		return Rate(r), nil
	}
	return 0, errors.New("a rate is above 0 and at most 1000000/s")
}

// String returns the rate as it is written in a scenario.
func (r Rate) String() string {
	if r < 1 && r > 0 {
		return formatNumber(float64(r)*60) + "/m"
	}
	return formatNumber(float64(r)) + "/s"
}

// Percent is a number of percent: 5% and plain 5 both mean five of a hundred.
type Percent float64

// ParsePercent parses 5%, 0.5% or a plain number of percent. It does not limit the range.
func ParsePercent(text string) (Percent, error) {
	n, err := parseDecimal(strings.TrimSuffix(text, "%"))
	return Percent(n), err
}

// Share is the percentage as a share of 1.
func (p Percent) Share() float64 { return float64(p) / 100 }

// String returns the percentage with its sign.
func (p Percent) String() string { return formatNumber(float64(p)) + "%" }

// Percentage is Istio's percentage, written {value: 5}, 5% or 5.
type Percentage struct {
	// Percent, 0 to 100.
	Value Percent `yaml:"value" spec:"required,min=0,max=100"`
}

// Bound is one end of a threshold range: a percentage (99 or 99%) or a duration (500ms).
type Bound struct {
	Percent  Percent
	Duration time.Duration // when IsDuration
	// IsDuration says which of the two was written.
	IsDuration bool
}

// ParseBound parses a percentage or a duration.
func ParseBound(text string) (Bound, error) {
	if p, err := ParsePercent(text); err == nil {
		return Bound{Percent: p}, nil
	}
	d, err := parseDuration(text)
	if err != nil {
		return Bound{}, errors.New("neither a percentage nor a duration")
	}
	return Bound{Duration: d, IsDuration: true}, nil
}

// String returns the bound as it is written in a scenario.
func (b Bound) String() string {
	if b.IsDuration {
		return b.Duration.String()
	}
	return b.Percent.String()
}

// parseDuration parses a positive or zero duration in Go's form, such as 1m30s or 250ms.
func parseDuration(text string) (time.Duration, error) {
	if _, err := parseNumber(text); err == nil && text != "0" {
		return 0, errors.New("a duration needs a unit")
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, errors.New("not a duration")
	case d < 0:
		return 0, errors.New("a duration is not negative")
	}
	return d, nil
}

// parseDecimal parses a plain decimal number, without an exponent.
func parseDecimal(text string) (float64, error) {
	if strings.ContainsAny(text, "eE+") {
		return 0, fmt.Errorf("%q is not a decimal number", text)
	}
	return parseNumber(text)
}

// parseNumber parses a finite decimal number, without the exotic forms that strconv knows.
func parseNumber(text string) (float64, error) {
	if text == "" || strings.Trim(text, "0123456789.eE+-") != "" {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return n, nil
}

func formatNumber(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
