package mesh

import (
	"errors"
	"fmt"
	"time"
)

// RateUnits are a limit in a unit of its own, in which a token, what comes back in a nanosecond and a full bucket are whole numbers: nothing has to be rounded.
type RateUnits struct {
	Token int64 // in a token
	Nano  int64 // that come back in a nanosecond
	Full  int64 // in a full bucket
}

// Bounds keep the sum of two levels and what comes back meanwhile below 2^63.
const (
	maxRateRequests = 1 << 32
	maxRateLevel    = 1 << 61
)

// Units counts a limit in whole numbers. The error says what is wrong with its own: Requests and Per must be above 0, Burst must not be below, and together they must not be too large.
func (l RateLimit) Units() (RateUnits, error) {
	burst := l.Burst
	switch {
	case l.Requests < 1:
		return RateUnits{}, fmt.Errorf("%d requests: at least 1 is needed", l.Requests)
	case l.Requests > maxRateRequests:
		return RateUnits{}, fmt.Errorf("%d requests: at most %d are possible", l.Requests, int64(maxRateRequests))
	case l.Per < 1:
		return RateUnits{}, fmt.Errorf("per %v: a time above 0 is needed", l.Per)
	case burst < 0:
		return RateUnits{}, fmt.Errorf("burst %d: it is not negative", burst)
	case burst == 0:
		burst = l.Requests
	}
	common := gcd(int64(l.Requests), int64(l.Per))
	u := RateUnits{Token: int64(l.Per) / common, Nano: int64(l.Requests) / common}
	if int64(burst) > maxRateLevel/u.Token {
		return RateUnits{}, errors.New("burst and per are too large to be counted exactly")
	}
	u.Full = int64(burst) * u.Token
	return u, nil
}

// Fill is how long it takes an empty bucket to be full, rounded up.
func (u RateUnits) Fill() time.Duration { return time.Duration((u.Full + u.Nano - 1) / u.Nano) }

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
