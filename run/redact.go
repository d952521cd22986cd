package run

import (
	"regexp"
	"strings"
)

// secrets are what credentials look like in a scenario: everything behind a key that names one, to the end of the line or of the flow mapping; a block scalar behind such a key; the
// argument behind such a flag; user information in a URL.
var secrets = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?im)^(\s*(?:- )?["']?[\w.-]*` + secretWord + `[\w.-]*["']?\s*:\s*[|>][+-]?\d*)[ \t]*\n(?:[ \t]+.*\n?|[ \t]*\n)+`), "${1} [redacted]\n"},
	{regexp.MustCompile(`(?im)(\b[\w.-]*` + secretWord + `[\w.-]*["']?\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"|'(?:[^'\n]|'')*'|[^\s,}\]][^,}\]\n]*)`), "${1}[redacted]"},
	{regexp.MustCompile(`(?i)(-{1,2}[\w-]*` + secretWord + `[\w-]*["']?\s*,\s*)("(?:[^"\\\n]|\\.)*"|'(?:[^'\n]|'')*'|[^\s,\]]+)`), "${1}[redacted]"},
	{regexp.MustCompile(`(://)[^/\s@"']*:[^/\s@"']+(@)`), "${1}[redacted]${2}"},
}

// redactSets hides the values of overrides whose path names a credential, and credentials in other values.
func redactSets(sets []string) []string {
	var out []string
	for _, set := range sets {
		path, value, _ := strings.Cut(set, "=")
		if secretPath.MatchString(path) {
			value = "[redacted]"
		}
		out = append(out, path+"="+redact(value))
	}
	return out
}

var secretPath = regexp.MustCompile(`(?i)` + secretWord)

const secretWord = `(?:password|passwd|passphrase|pass|pwd|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|authorization|credential|cookie)`

// redact hides credentials in a text that goes into the journal. It would rather hide too much.
func redact(text string) string {
	for _, s := range secrets {
		text = s.pattern.ReplaceAllString(text, s.with)
	}
	return text
}
