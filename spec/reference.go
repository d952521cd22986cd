package spec

import (
	"fmt"
	"slices"
	"strings"
)

// RefKind is the first word of a ${...} reference.
type RefKind string

// Kinds of references.
const (
	RefService  RefKind = "service"  // ${service.NAME.url|host|port}: the caller's way to a service, through its sidecar
	RefExternal RefKind = "external" // ${external.NAME.url|host|port}
	RefSelf     RefKind = "self"     // ${self.host|port|name|version}: the instance itself
	RefSeed     RefKind = "seed"     // ${seed}
)

// Ref is one ${...} reference in a text.
type Ref struct {
	Kind  RefKind
	Name  string // of the service; empty for self and seed
	Field string // url, host, port, name or version; empty for seed
	Text  string // as written, with ${ and }
	At    int    // offset in the text
}

// References returns the references in a text in order, or an error about the first that is malformed or of an unknown kind. $${ is not a reference.
func References(text string) ([]Ref, error) {
	var refs []Ref
	_, err := Expand(text, func(r Ref) (string, error) {
		refs = append(refs, r)
		return "", nil
	})
	return refs, err
}

// Expand replaces every reference in a text by its value, and $${ by ${. It returns the first error, of the text's form or of value, wrapped with the reference.
func Expand(text string, value func(Ref) (string, error)) (string, error) {
	var out strings.Builder
	for at := 0; ; {
		i := strings.Index(text[at:], "${")
		if i < 0 {
			out.WriteString(text[at:])
			return out.String(), nil
		}
		start := at + i
		if start > at && text[start-1] == '$' {
			out.WriteString(text[at:start-1] + "${")
			at = start + 2
			continue
		}
		out.WriteString(text[at:start])
		end := strings.IndexByte(text[start:], '}')
		if end < 0 {
			return "", fmt.Errorf("the reference %q has no closing brace", text[start:])
		}
		at = start + end + 1
		ref, err := parseRef(text[start:at])
		if err != nil {
			return "", err
		}
		ref.At = start
		v, err := value(ref)
		if err != nil {
			return "", fmt.Errorf("%s: %w", ref.Text, err)
		}
		out.WriteString(v)
	}
}

// refFields are the fields that each kind of reference has; a kind with a name stands before NAME.
var refFields = map[RefKind][]string{
	RefService:  {"url", "host", "port"},
	RefExternal: {"url", "host", "port"},
	RefSelf:     {"host", "port", "name", "version"},
}

func parseRef(text string) (Ref, error) {
	words := strings.Split(strings.TrimSpace(text[2:len(text)-1]), ".")
	ref := Ref{Kind: RefKind(words[0]), Text: text}
	switch {
	case ref.Kind == RefSeed && len(words) == 1:
		return ref, nil
	case ref.Kind == RefSelf && len(words) == 2:
		ref.Field = words[1]
	case (ref.Kind == RefService || ref.Kind == RefExternal) && len(words) == 3:
		ref.Name, ref.Field = words[1], words[2]
	default:
		return ref, fmt.Errorf("unknown reference %s", text)
	}
	if !slices.Contains(refFields[ref.Kind], ref.Field) {
		return ref, fmt.Errorf("unknown reference %s: %s has no %q, only %s", text, ref.Kind, ref.Field, strings.Join(refFields[ref.Kind], ", "))
	}
	return ref, nil
}
