package route

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// rewriting replaces everything in a path that an expression finds.
type rewriting struct {
	find  *regexp.Regexp
	parts []part
}

// part is a piece of a replacement: text, or what a group found.
type part struct {
	text  string
	group int // 0: all that was found; -1: the text
}

// compileRewrite checks a rewrite, and compiles what it has to find.
func compileRewrite(w *mesh.Rewrite) (*rewriting, error) {
	if w == nil {
		return nil, nil
	}
	set := 0
	for _, is := range []bool{w.Path != "", w.FullPath != "", w.Regex != nil} {
		if is {
			set++
		}
	}
	if set > 1 {
		return nil, errors.New("rewrite: only one of path, fullPath and regex can be set")
	}
	if w.Regex == nil {
		return nil, nil
	}
	find, err := regexp.Compile(w.Regex.Find)
	if err != nil {
		return nil, fmt.Errorf("rewrite: regex %q: %s", w.Regex.Find, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	parts, err := partsOf(w.Regex.Replace, find.NumSubexp())
	if err != nil {
		return nil, fmt.Errorf("rewrite: %q: %w", w.Regex.Replace, err)
	}
	return &rewriting{find, parts}, nil
}

// partsOf cuts a replacement at its references, \0 to \9.
func partsOf(replace string, groups int) ([]part, error) {
	var parts []part
	text := func(s string) { parts = append(parts, part{s, -1}) }
	for replace != "" {
		before, rest, found := strings.Cut(replace, `\`)
		if before != "" {
			text(before)
		}
		switch {
		case !found:
			return parts, nil
		case rest == "":
			return nil, errors.New(`it ends with a backslash`)
		case rest[0] == '\\':
			text(`\`)
		case rest[0] < '0' || rest[0] > '9':
			return nil, fmt.Errorf(`\%c is no reference`, rest[0])
		case int(rest[0]-'0') > groups:
			return nil, fmt.Errorf(`there is no group \%c`, rest[0])
		default:
			parts = append(parts, part{"", int(rest[0] - '0')})
		}
		replace = rest[1:]
	}
	return parts, nil
}

// append appends the path with everything replaced that is found. It always begins with a slash.
func (w *rewriting) append(dst, path []byte) []byte {
	begin, end := len(dst), 0
	for _, at := range w.find.FindAllSubmatchIndex(path, -1) {
		dst = append(dst, path[end:at[0]]...)
		for _, p := range w.parts {
			switch {
			case p.group < 0:
				dst = append(dst, p.text...)
			case at[2*p.group] >= 0:
				dst = append(dst, path[at[2*p.group]:at[2*p.group+1]]...)
			}
		}
		end = at[1]
	}
	dst = append(dst, path[end:]...)
	if len(dst) == begin || dst[begin] != '/' {
		dst = append(dst, 0)
		copy(dst[begin+1:], dst[begin:])
		dst[begin] = '/'
	}
	return dst
}
