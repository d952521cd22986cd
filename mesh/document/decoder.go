package document

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Decoder reads one document into structs.
type Decoder struct {
	*Reporter
	family string
	types  Types
}

// Types remembers what the tags of structs demand, for all documents that are read together. The zero value is not ready: make it.
type Types map[reflect.Type][]field

// NewDecoder reads a document. Problems' codes are of the family.
func NewDecoder(doc Document, family string, types Types) *Decoder {
	return &Decoder{Reporter: NewReporter(doc), family: family, types: types}
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
func (d *Decoder) fields(t reflect.Type) []field {
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
		own := field{name: name, index: f.Index, required: option == "required", honoured: f.Type != reflect.TypeFor[Unhonoured](), fallback: f.Tag.Get("default"), hint: f.Tag.Get("hint")}
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

// Fields are the types of the fields that a struct has in a document, by their names there.
func Fields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for _, f := range (&Decoder{types: Types{}}).fields(t) {
		out[f.name] = t.FieldByIndex(f.index).Type
	}
	return out
}

// Object fills a struct from a mapping. Each field is set only when it exists, is honoured and has a value of its type; everything else is a problem.
func (d *Decoder) Object(n *yaml.Node, into reflect.Value, path string) {
	n = Resolve(n)
	if n.Kind != yaml.MappingNode {
		d.At(n, d.family+wrongType, path, "", "must be a mapping, not %s", KindName(n))
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
		where := Join(path, key.Value)
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		switch {
		case seen[key.Value]:
			d.At(key, d.family+conflict, where, "remove one of them", "%q is there twice", key.Value)
			continue
		case at < 0:
			d.Unknown(d.family+unknownField, key, where, known)
			continue
		}
		seen[key.Value] = true
		f := fields[at]
		if !f.honoured {
			hint := f.hint
			if hint == "" {
				hint = "honoured here: " + strings.Join(known, ", ")
			}
			d.At(key, d.family+notHonoured, where, hint, "%s is not honoured yet", key.Value)
			continue
		}
		d.Nodes[where] = value
		d.value(value, into.FieldByIndex(f.index), f, where)
	}
	for _, f := range fields {
		switch {
		case seen[f.name]:
		case f.required:
			d.At(n, d.family+invalid, path, "", "the field %q is missing", f.name)
		case f.fallback != "":
			setScalar(into.FieldByIndex(f.index), f.fallback)
		}
	}
}

// value reads the value of a field, or an element of one.
func (d *Decoder) value(n *yaml.Node, into reflect.Value, f field, path string) {
	n = Resolve(n)
	if into.Type() == reflect.TypeFor[*yaml.Node]() {
		into.Set(reflect.ValueOf(n))
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		d.Object(n, into, path)
	case reflect.Pointer:
		v := reflect.New(into.Type().Elem())
		before := len(d.Problems)
		d.value(n, v.Elem(), f, path)
		if v.Elem().Kind() == reflect.Struct || len(d.Problems) == before {
			into.Set(v)
		}
	case reflect.Slice:
		d.list(n, into, f, path)
	case reflect.Map:
		d.Texts(n, into, path)
	default:
		d.scalar(n, into, f, path)
	}
}

// list reads a list. Elements that are wrong are in it, empty, so that indices stay those of the document.
func (d *Decoder) list(n *yaml.Node, into reflect.Value, f field, path string) {
	switch {
	case n.Kind != yaml.SequenceNode:
		d.At(n, d.family+wrongType, path, "", "must be a list, not %s", KindName(n))
		return
	case !f.hold(int64(len(n.Content))):
		d.At(n, d.family+invalid, path, "", "must have %d to %d elements, not %d", f.min, f.max, len(n.Content))
		return
	}
	element := f
	element.bounds = bounds{}
	for i, e := range n.Content {
		where := Index(path, i)
		d.Nodes[where] = e
		v := reflect.New(into.Type().Elem()).Elem()
		d.value(e, v, element, where)
		into.Set(reflect.Append(into, v))
	}
}

// Texts reads a mapping of words to words.
func (d *Decoder) Texts(n *yaml.Node, into reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.At(n, d.family+wrongType, path, "", "must be a mapping, not %s", KindName(n))
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		where := Join(path, key.Value)
		d.Nodes[where] = value
		v := reflect.New(into.Type().Elem()).Elem()
		d.value(value, v, field{}, where)
		into.SetMapIndex(reflect.ValueOf(key.Value), v)
	}
}

// scalar reads one word or number.
func (d *Decoder) scalar(n *yaml.Node, into reflect.Value, f field, path string) {
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
		d.At(n, d.family+wrongType, path, hint, "must be %s, not %s", what, KindName(n))
	case len(f.words) > 0 && !slices.Contains(f.words, n.Value):
		d.At(n, d.family+wrongType, path, "", "must be one of %s, not %s", strings.Join(f.words, ", "), KindName(n))
		d.CouldBe(n.Value, f.words)
		into.SetZero()
	case into.CanInt() && into.Type() != reflect.TypeFor[Duration]() && !f.hold(into.Int()):
		d.At(n, d.family+invalid, path, "", "must be %d to %d, not %s", f.min, f.max, n.Value)
		into.SetZero()
	}
}

// typeOf is what a field needs, with its article, and whether the node is of that type.
func typeOf(into reflect.Value, n *yaml.Node) (what string, ok bool) {
	is := func(tag string) bool { return n.Kind == yaml.ScalarNode && n.Tag == tag }
	switch {
	case into.Type() == reflect.TypeFor[Duration]():
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
	case into.Type() == reflect.TypeFor[Duration]():
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

// Resolve follows aliases to what they stand for. Documents come from a loader that bounds their size with aliases expanded.
func Resolve(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < 100; i++ {
		n = n.Alias
	}
	return n
}

// KindName says in words what a node is.
func KindName(n *yaml.Node) string {
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

// Join is the path of a field.
func Join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// Index is the path of an element.
func Index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
