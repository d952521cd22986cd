package spec

import "strings"

// Suggest is the hint for an unknown word among known ones: the one it most probably means, or all of them.
func Suggest(word string, known []string) string { return suggest(nearest(word, known), known) }

// nearest returns the known word that a mistyped one most probably means, or "" when none is near: at most a third of its letters may differ, and one of three
// or more. Case, dashes and underscores do not count. An abbreviation means the word it begins.
func nearest(word string, known []string) string {
	best, bestDistance := "", len(word)
	for _, k := range known {
		limit := max(len(k), len(word)) / 3
		if d := distance(fold(word), fold(k)); d <= limit && d < bestDistance {
			best, bestDistance = k, d
		}
		if best == "" && len(word) > 3 && strings.HasPrefix(fold(k), fold(word)) {
			best = k // an abbreviation; a word at a smaller distance still wins
		}
	}
	return best
}

func fold(s string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// distance is the number of letters to insert, delete, replace, or swap with a neighbour (optimal string alignment), bounded for long input.
func distance(a, b string) int {
	const limit = 64
	a, b = a[:min(len(a), limit)], b[:min(len(b), limit)]
	var prev2 []int
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev = prev, row
	}
	return prev[len(b)]
}
