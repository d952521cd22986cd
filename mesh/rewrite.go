package mesh

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// ReplacePart is a piece of a replacement: what a group found (0: all that was found), or text, when Group is below 0.
type ReplacePart struct {
	Text  string
	Group int
}

// Compile gives the expression of a rewrite and the parts of its replacement. The error says what is wrong with either.
func (r RegexRewrite) Compile() (find *regexp.Regexp, parts []ReplacePart, err error) {
	if find, err = regexp.Compile(r.Find); err != nil {
		return nil, nil, fmt.Errorf("%q is not a regular expression: %s", r.Find, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	if parts, err = replaceParts(r.Replace, find.NumSubexp()); err != nil {
		return nil, nil, fmt.Errorf("%q is not a replacement: %w", r.Replace, err)
	}
	return find, parts, nil
}

// replaceParts cuts a replacement at its references, \0 to \9.
func replaceParts(replace string, groups int) ([]ReplacePart, error) {
	var parts []ReplacePart
	text := func(s string) { parts = append(parts, ReplacePart{s, -1}) }
	for replace != "" {
		before, rest, found := strings.Cut(replace, `\`)
		if before != "" {
			text(before)
		}
		switch {
		case !found:
			return parts, nil
		case rest == "":
			return nil, errors.New("it ends with a backslash")
		case rest[0] == '\\':
			text(`\`)
		case rest[0] < '0' || rest[0] > '9':
			return nil, fmt.Errorf(`\%c is no reference`, rest[0])
		case int(rest[0]-'0') > groups:
			return nil, fmt.Errorf(`there is no group \%c`, rest[0])
		default:
			parts = append(parts, ReplacePart{"", int(rest[0] - '0')})
		}
		replace = rest[1:]
	}
	return parts, nil
}
