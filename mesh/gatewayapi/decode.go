package gatewayapi

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder reads one document and remembers where everything stands.
type decoder struct {
	file     string
	nodes    map[string]*yaml.Node // by path
	types    map[reflect.Type][]field
	problems []Problem
}

func newDecoder(doc Document, types map[reflect.Type][]field) *decoder {
	return &decoder{file: doc.File, nodes: map[string]*yaml.Node{doc.Path: doc.Node}, types: types}
}

// at reports a problem at a node.
func (d *decoder) at(n *yaml.Node, code, path, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{Code: code, File: d.file, Line: n.Line, Col: n.Column, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// problem reports a problem at the value of a path, or at the nearest thing above it that is there.
func (d *decoder) problem(code, path, hint, format string, args ...any) {
	for at := path; ; at = at[:max(strings.LastIndexAny(at, ".["), 0)] {
		if n := d.nodes[at]; n != nil {
			d.at(n, code, path, hint, format, args...)
			return
		}
		if at == "" {
			break
		}
	}
	d.problems = append(d.problems, Problem{Code: code, File: d.file, Line: 1, Col: 1, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// couldBe says of the last problem which word is wrong, and what it could have been.
func (d *decoder) couldBe(word string, known []string) {
	last := &d.problems[len(d.problems)-1]
	last.Word, last.Known = word, known
}

// unknown reports a field that does not exist.
func (d *decoder) unknown(key *yaml.Node, path string, known []string) {
	d.at(key, CodeUnknown, path, "", "unknown field %q", key.Value)
	d.couldBe(key.Value, known)
}

// has reports whether there is a problem at or below a path that any of the given codes has; without codes, any problem.
func (d *decoder) has(path string, codes ...string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool {
		return under(p.Path, path) && (len(codes) == 0 || slices.Contains(codes, p.Code))
	})
}

// under reports whether a path is another one or below it.
func under(path, above string) bool {
	rest, ok := strings.CutPrefix(path, above)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// field is what the tags of a struct's field demand.
type field struct {
	name     string
	index    []int
	honoured bool
	required bool
	fallback string   // the default; empty: the zero value
	words    []string // that the value, or each element of it, may be; none: any
	hint     string
	bounds
}

// bounds are those of a number, or of the length of a list. The zero value is none.
type bounds struct {
	set      bool
	min, max int64
}

func (b bounds) hold(n int64) bool { return !b.set || b.min <= n && n <= b.max }

// fields lists those of a struct, the ones of structs inside it that are inline included.
func (d *decoder) fields(t reflect.Type) []field {
	if known, ok := d.types[t]; ok {
		return known
	}
	var out []field
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := f.Tag.Lookup("api")
		name, option, _ := strings.Cut(tag, ",")
		if !ok || option == "inline" {
			continue
		}
		own := field{name: name, index: f.Index, required: option == "required", honoured: f.Type != reflect.TypeFor[unhonoured](), fallback: f.Tag.Get("default"), hint: f.Tag.Get("hint")}
		if words := f.Tag.Get("words"); words != "" {
			own.words = strings.Split(words, ",")
		}
		if limit := f.Tag.Get("max"); limit != "" {
			own.set = true
			own.max, _ = strconv.ParseInt(limit, 10, 64)
			own.min, _ = strconv.ParseInt(f.Tag.Get("min"), 10, 64)
		}
		out = append(out, own)
	}
	d.types[t] = out
	return out
}

// object fills a struct from a mapping. Each field is set only when it exists, is honoured and has a value of its type; everything else is a problem.
func (d *decoder) object(n *yaml.Node, into reflect.Value, path string) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.at(n, CodeType, path, "", "must be a mapping, not %s", kindName(n))
		return
	}
	fields := d.fields(into.Type())
	var known []string
	for _, f := range fields {
		if f.honoured {
			known = append(known, f.name)
		}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		where := join(path, key.Value)
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		switch {
		case seen[key.Value]:
			d.at(key, CodeConflict, where, "remove one of them", "%q is there twice", key.Value)
			continue
		case at < 0:
			d.unknown(key, where, known)
			continue
		}
		seen[key.Value] = true
		f := fields[at]
		if !f.honoured {
			hint := f.hint
			if hint == "" {
				hint = "honoured here: " + strings.Join(known, ", ")
			}
			d.at(key, CodeNotHonoured, where, hint, "%s is not honoured yet", key.Value)
			continue
		}
		d.nodes[where] = value
		d.value(value, into.FieldByIndex(f.index), f, where)
	}
	for _, f := range fields {
		switch {
		case seen[f.name]:
		case f.required:
			d.at(n, CodeInvalid, path, "", "the field %q is missing", f.name)
		case f.fallback != "":
			setScalar(into.FieldByIndex(f.index), f.fallback)
		}
	}
}

// value reads the value of a field, or an element of one.
func (d *decoder) value(n *yaml.Node, into reflect.Value, f field, path string) {
	n = resolve(n)
	switch into.Kind() {
	case reflect.Struct:
		d.object(n, into, path)
	case reflect.Pointer:
		v := reflect.New(into.Type().Elem())
		before := len(d.problems)
		d.value(n, v.Elem(), f, path)
		if v.Elem().Kind() == reflect.Struct || len(d.problems) == before {
			into.Set(v)
		}
	case reflect.Slice:
		d.list(n, into, f, path)
	case reflect.Map:
		d.texts(n, into, path)
	default:
		d.scalar(n, into, f, path)
	}
}

// list reads a list. Elements that are wrong are in it, empty, so that indices stay those of the document.
func (d *decoder) list(n *yaml.Node, into reflect.Value, f field, path string) {
	switch {
	case n.Kind != yaml.SequenceNode:
		d.at(n, CodeType, path, "", "must be a list, not %s", kindName(n))
		return
	case !f.hold(int64(len(n.Content))):
		d.at(n, CodeInvalid, path, "", "must have %d to %d elements, not %d", f.min, f.max, len(n.Content))
		return
	}
	element := f
	element.bounds = bounds{}
	for i, e := range n.Content {
		where := index(path, i)
		d.nodes[where] = e
		v := reflect.New(into.Type().Elem()).Elem()
		d.value(e, v, element, where)
		into.Set(reflect.Append(into, v))
	}
}

// texts reads a mapping of words to words.
func (d *decoder) texts(n *yaml.Node, into reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.at(n, CodeType, path, "", "must be a mapping, not %s", kindName(n))
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		where := join(path, key.Value)
		d.nodes[where] = value
		v := reflect.New(into.Type().Elem()).Elem()
		d.value(value, v, field{}, where)
		into.SetMapIndex(reflect.ValueOf(key.Value), v)
	}
}

// scalar reads one word or number.
func (d *decoder) scalar(n *yaml.Node, into reflect.Value, f field, path string) {
	what, ok := typeOf(into, n)
	if ok {
		ok = setScalar(into, n.Value)
	}
	switch {
	case !ok:
		hint := ""
		if what == "text" && n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			hint = "put it in quotes"
		}
		d.at(n, CodeType, path, hint, "must be %s, not %s", what, kindName(n))
	case len(f.words) > 0 && !slices.Contains(f.words, n.Value):
		d.at(n, CodeType, path, "", "must be one of %s, not %s", strings.Join(f.words, ", "), kindName(n))
		d.couldBe(n.Value, f.words)
		into.SetZero()
	case into.CanInt() && into.Type() != reflect.TypeFor[duration]() && !f.hold(into.Int()):
		d.at(n, CodeInvalid, path, "", "must be %d to %d, not %s", f.min, f.max, n.Value)
		into.SetZero()
	}
}

// typeOf is what a field needs, with its article, and whether the node is of that type.
func typeOf(into reflect.Value, n *yaml.Node) (what string, ok bool) {
	is := func(tag string) bool { return n.Kind == yaml.ScalarNode && n.Tag == tag }
	switch {
	case into.Type() == reflect.TypeFor[duration]():
		return "a duration such as 250ms or 1m30s", is("!!str")
	case into.Kind() == reflect.Bool:
		return "true or false", is("!!bool")
	case into.CanInt():
		return "a whole number", is("!!int")
	default:
		return "text", is("!!str")
	}
}

// durationPattern is that of GEP-2257, which takes less than Go does.
var durationPattern = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

// setScalar sets a field from a word, and reports whether the word is of its type.
func setScalar(into reflect.Value, word string) bool {
	switch {
	case into.Type() == reflect.TypeFor[duration]():
		v, err := time.ParseDuration(word)
		into.SetInt(int64(v))
		return err == nil && durationPattern.MatchString(word)
	case into.Kind() == reflect.Bool:
		into.SetBool(strings.EqualFold(word, "true"))
		return true
	case into.CanInt():
		v, err := strconv.ParseInt(word, 10, 32)
		into.SetInt(v)
		return err == nil
	default:
		into.SetString(word)
		return true
	}
}

// resolve follows aliases to what they stand for. Documents come from a loader that bounds their size with aliases expanded.
func resolve(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < 100; i++ {
		n = n.Alias
	}
	return n
}

func kindName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	default:
		return strconv.Quote(n.Value)
	}
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
