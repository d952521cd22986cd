package route

import (
	"errors"
	"fmt"
	"regexp"

	"meshtest.dev/meshtest/mesh"
)

// rewriting replaces everything in a path that an expression finds.
type rewriting struct {
	find  *regexp.Regexp
	parts []mesh.ReplacePart
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
	find, parts, err := w.Regex.Compile()
	if err != nil {
		return nil, fmt.Errorf("rewrite: %w", err)
	}
	return &rewriting{find, parts}, nil
}

// append appends the path with everything replaced that is found. It always begins with a slash.
func (w *rewriting) append(dst, path []byte) []byte {
	begin, end := len(dst), 0
	for _, at := range w.find.FindAllSubmatchIndex(path, -1) {
		dst = append(dst, path[end:at[0]]...)
		for _, p := range w.parts {
			switch {
			case p.Group < 0:
				dst = append(dst, p.Text...)
			case at[2*p.Group] >= 0:
				dst = append(dst, path[at[2*p.Group]:at[2*p.Group+1]]...)
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
