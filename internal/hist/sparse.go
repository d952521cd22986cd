package hist

import (
	"encoding/json"
	"errors"
	"fmt"
)

// MaxCount is the largest total that a decoded histogram may have: the integers that survive any JSON reader.
const MaxCount = 1 << 53

// ErrEncoding is wrapped by every error about a sparse encoding that does not decode.
var ErrEncoding = errors.New("sparse histogram")

// AppendSparse appends the non-empty buckets to dst as pairs: index, count, index, count and so on. Indices grow and counts are positive,
// so equal histograms have equal encodings.
func (h *Histogram) AppendSparse(dst []uint64) []uint64 {
	for i, n := range h.counts {
		if n > 0 {
			dst = append(dst, uint64(i), n)
		}
	}
	return dst
}

// AddSparse merges what AppendSparse wrote. The pairs may come from outside: an odd length, an index that is out of range or does not grow,
// a count of zero, and a total above MaxCount are errors that wrap ErrEncoding and leave the histogram as it was.
func (h *Histogram) AddSparse(pairs []uint64) error {
	if err := checkSparse(pairs, h.Count()); err != nil {
		return err
	}
	for p := 0; p < len(pairs); p += 2 {
		h.counts[pairs[p]] += pairs[p+1]
	}
	return nil
}

func checkSparse(pairs []uint64, total uint64) error {
	if len(pairs)%2 != 0 {
		return fmt.Errorf("%w: %d numbers are not pairs", ErrEncoding, len(pairs))
	}
	for p := 0; p < len(pairs); p += 2 {
		index, count := pairs[p], pairs[p+1]
		switch {
		case index >= Buckets:
			return fmt.Errorf("%w: index %d of %d buckets", ErrEncoding, index, Buckets)
		case p > 0 && index <= pairs[p-2]:
			return fmt.Errorf("%w: index %d after %d", ErrEncoding, index, pairs[p-2])
		case count == 0:
			return fmt.Errorf("%w: bucket %d is empty", ErrEncoding, index)
		case total > MaxCount || count > MaxCount-total:
			return fmt.Errorf("%w: more than %d durations", ErrEncoding, uint64(MaxCount))
		}
		total += count
	}
	return nil
}

// MarshalJSON writes the sparse encoding as one flat array of numbers.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	pairs := h.AppendSparse([]uint64{})
	return json.Marshal(pairs)
}

// UnmarshalJSON reads what MarshalJSON wrote and replaces the counts.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var pairs []uint64
	if err := json.Unmarshal(data, &pairs); err != nil {
		return fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	if err := checkSparse(pairs, 0); err != nil {
		return err
	}
	h.Reset()
	return h.AddSparse(pairs)
}
