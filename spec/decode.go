package spec

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// notHonoured are words that users know from elsewhere and that are not honoured yet.
var notHonoured = map[reflect.Type][]string{
	reflect.TypeFor[Step]():  {"setMirrorRoute", "setCanaryScale", "experiment", "replicaProgressThreshold", "plugin"},
	reflect.TypeFor[Run]():   {"imagePullPolicy"},
	reflect.TypeFor[Check](): {"templateRef", "templateVariables", "successCondition", "failureCondition", "provider", "effectSize", "muted"},
}

// decoder fills scenario types from YAML nodes and collects every problem on the way.
type decoder struct {
	src   *source
	diags Diagnostics
	// bad are the paths that a problem was reported for; whatever depends on them keeps silent.
	bad map[string]bool
	// fixtures are the sample applications that there are; nil: not known.
	fixtures []string
	// unknown are, by the path of a mapping, the known names that its unknown fields probably mean ("" when there is none near).
	unknown map[string][]string
}

func (d *decoder) problem(n *yaml.Node, code, path, message, hint string) {
	d.bad[path] = true
	d.diags = append(d.diags, d.src.at(SeverityError, code, d.src.file, n.Line, n.Column, path, message, hint))
}

// decode fills v from n. The field says what constraints hold, for the value itself or its elements.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string, f Field) {
	d.src.nodes[path] = n
	n = resolve(n)
	t := v.Type()
	if t == reflect.TypeFor[Rule]() {
		d.decodeRule(n, v.Addr().Interface().(*Rule), path)
		return
	}
	if t == reflect.TypeFor[Message]() {
		v.Set(reflect.ValueOf(Message{n}))
		return
	}
	if t == reflect.TypeFor[Percentage]() && n.Kind == yaml.ScalarNode {
		v, t = v.Field(0), reflect.TypeFor[Percent]()
		f = Fields(reflect.TypeFor[Percentage]())[0]
	}
	if s, ok := scalars[t]; ok {
		d.decodeScalar(n, v, path, f, s)
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		p := reflect.New(t.Elem())
		before := len(d.diags)
		d.decode(n, p.Elem(), path, f)
		if len(d.diags) == before || t.Elem().Kind() == reflect.Struct {
			v.Set(p)
		}
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Slice:
		d.decodeList(n, v, path, f)
	case reflect.Map:
		d.decodeMap(n, v, path, f)
	default:
		panic(fmt.Sprintf("spec: no way to decode %s", t))
	}
}

func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, "MT1102", path, "must be a mapping, not "+kindName(n), "")
		return
	}
	fields := Fields(v.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || seen[key.Value] {
			continue // checkTree has said so
		}
		seen[key.Value] = true
		at := slices.IndexFunc(fields, func(f Field) bool { return f.Name == key.Value })
		if at < 0 {
			d.unknownField(key, value, v.Type(), fields, path)
			continue
		}
		d.src.keys[join(path, key.Value)] = key
		d.decode(value, v.Field(fields[at].Index), join(path, key.Value), fields[at])
	}
	for _, f := range fields {
		if f.Required && !seen[f.Name] && !slices.Contains(d.unknown[path], f.Name) {
			line, col := d.src.find(path, true)
			d.bad[join(path, f.Name)] = true
			d.diags = append(d.diags, d.src.at(SeverityError, "MT1103", d.src.file, line, col, path, fmt.Sprintf("the field %q is missing", f.Name), ""))
		}
	}
}

func (d *decoder) unknownField(key, value *yaml.Node, t reflect.Type, fields []Field, path string) {
	var names []string
	for _, f := range fields {
		names = append(names, f.Name)
	}
	where := join(path, key.Value)
	if slices.Contains(notHonoured[t], key.Value) {
		d.unknown[path] = append(d.unknown[path], "")
		d.problem(key, "MT1106", where, fmt.Sprintf("%s is not honoured yet", key.Value), "known here: "+strings.Join(names, ", "))
		return
	}
	code, what := "MT1101", "field"
	if t == reflect.TypeFor[Fault]() && resolve(value).Kind == yaml.MappingNode {
		code, what, names = "MT1108", "fault", append([]string{FaultAbort, FaultDelay}, disruptions...)
	}
	near := nearest(key.Value, names)
	d.unknown[path] = append(d.unknown[path], near)
	d.problem(key, code, where, fmt.Sprintf("unknown %s %q", what, shorten(key.Value)), suggest(near, names))
}

// suggest is the hint for an unknown word.
func suggest(near string, known []string) string {
	if near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(known) == 0 {
		return ""
	}
	return "known here: " + strings.Join(known, ", ")
}

func (d *decoder) decodeList(n *yaml.Node, v reflect.Value, path string, f Field) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.problem(n, "MT1102", path, "must be a list, not "+kindName(n), "")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		d.decode(e, list.Index(i), index(path, i), f)
	}
	v.Set(list)
}

func (d *decoder) decodeMap(n *yaml.Node, v reflect.Value, path string, f Field) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.problem(n, "MT1102", path, "must be a mapping, not "+kindName(n), "")
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			continue // checkTree has said so
		}
		where := join(path, key.Value)
		d.src.keys[where] = key
		if f.Label && !isLabel(key.Value) {
			d.problem(key, "MT1109", where, fmt.Sprintf("%q is not a name", shorten(key.Value)), labelHint)
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if e.Kind() == reflect.String {
			d.decodeText(value, e, where)
		} else {
			d.decode(value, e, where, Field{Min: f.Min, Max: f.Max, Enum: f.Enum, Positive: f.Positive})
		}
		if e.Kind() != reflect.Pointer || !e.IsNil() {
			m.SetMapIndex(reflect.ValueOf(key.Value), e)
		}
	}
	v.Set(m)
}

// decodeText takes any scalar as text, for values of variables and headers: ERROR_RATE: 0.5 means the text 0.5.
func (d *decoder) decodeText(n *yaml.Node, v reflect.Value, path string) {
	d.src.nodes[path] = n
	if n = resolve(n); n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.problem(n, "MT1102", path, "must be text, not "+kindName(n), `for empty text write ""`)
		return
	}
	v.SetString(n.Value)
}

const labelHint = "a name has lower-case letters, digits and dashes, begins with a letter, does not end with a dash, and has at most 63 characters"

var label = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

func isLabel(s string) bool { return label.MatchString(s) }

// scalar is a type that is written as one word.
type scalar struct {
	what    string // with its article, for messages
	example string
	tags    string // the YAML types it may be written as
	parse   func(text string) (any, error)
}

var scalars = map[reflect.Type]scalar{
	reflect.TypeFor[string]():        {"text", "", "!!str", func(s string) (any, error) { return s, nil }},
	reflect.TypeFor[bool]():          {"true or false", "", "!!bool", func(s string) (any, error) { return strings.EqualFold(s, "true"), nil }},
	reflect.TypeFor[int]():           {"a whole number", "3", "!!int", func(s string) (any, error) { return strconv.Atoi(s) }},
	reflect.TypeFor[uint64]():        {"a whole number, not negative", "3", "!!int", func(s string) (any, error) { return strconv.ParseUint(s, 10, 64) }},
	reflect.TypeFor[uint32]():        {"a whole number, not negative", "3", "!!int", parseUint32},
	reflect.TypeFor[float64]():       {"a number", "0.5", "!!int !!float", func(s string) (any, error) { return parseNumber(s) }},
	reflect.TypeFor[time.Duration](): {"a duration", "30s or 250ms", "!!str !!int", func(s string) (any, error) { return parseDuration(s) }},
	reflect.TypeFor[Rate]():          {"a rate", "200/s or 50/m", "!!str", func(s string) (any, error) { return ParseRate(s) }},
	reflect.TypeFor[Percent]():       {"a percentage", "5%", "!!str !!int !!float", func(s string) (any, error) { return ParsePercent(s) }},
	reflect.TypeFor[Bound]():         {"a percentage or a duration", "99% or 500ms", "!!str !!int !!float", func(s string) (any, error) { return ParseBound(s) }},
}

func parseUint32(s string) (any, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, path string, f Field, s scalar) {
	if !plainTags[n.Tag] && n.Kind == yaml.ScalarNode {
		d.bad[path] = true // checkTree has said so
		return
	}
	hint := ""
	switch {
	case s.example != "":
		hint = "such as " + s.example
	case s.tags == "!!str":
		hint = "put it in quotes"
	}
	if n.Kind != yaml.ScalarNode || !slices.Contains(strings.Fields(s.tags), n.Tag) {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			hint = strings.TrimPrefix(hint, "put it in quotes")
		}
		d.problem(n, "MT1102", path, fmt.Sprintf("must be %s, not %s", s.what, kindName(n)), hint)
		return
	}
	value, err := s.parse(n.Value)
	if err != nil {
		d.problem(n, "MT1105", path, fmt.Sprintf("must be %s, not %s", s.what, kindName(n)), hint)
		return
	}
	v.Set(reflect.ValueOf(value))
	d.constrain(n, v, path, f)
}

// constrain checks a decoded scalar against the constraints of its field.
func (d *decoder) constrain(n *yaml.Node, v reflect.Value, path string, f Field) {
	if v.Kind() == reflect.String {
		text := v.String()
		switch {
		case f.Enum != nil && !slices.Contains(f.Enum, text):
			d.problem(n, "MT1110", path, fmt.Sprintf("must be %s, not %s", orList(f.Enum), kindName(n)), suggestOnly(nearest(text, f.Enum)))
		case f.Label && !isLabel(text):
			d.problem(n, "MT1109", path, fmt.Sprintf("%s is not a name", kindName(n)), labelHint)
		case f.Required && text == "":
			d.problem(n, "MT1105", path, "must not be empty", "")
		}
		return
	}
	var number float64
	switch {
	case v.CanInt():
		number = float64(v.Int())
	case v.CanUint():
		number = float64(v.Uint())
	case v.CanFloat():
		number = v.Float()
	}
	if f.Positive && number <= 0 {
		d.problem(n, "MT1203", path, "must be more than 0", "")
	} else if number < f.Min || number > f.Max {
		d.problem(n, "MT1203", path, fmt.Sprintf("%s is out of range", n.Value), rangeHint(f))
	}
}

func rangeHint(f Field) string {
	switch {
	case math.IsInf(f.Max, 1):
		return "at least " + formatNumber(f.Min)
	case math.IsInf(f.Min, -1):
		return "at most " + formatNumber(f.Max)
	default:
		return formatNumber(f.Min) + " to " + formatNumber(f.Max)
	}
}

func suggestOnly(near string) string { return suggest(near, nil) }

// orList is "a, b or c".
func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// decodeRule takes {file: ...} or an inline document, which is left to whoever compiles it.
func (d *decoder) decodeRule(n *yaml.Node, r *Rule, path string) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, "MT1102", path, "must be a mapping, not "+kindName(n), "an Istio document, or file: rules.yaml")
		return
	}
	if child(n, "kind") != nil || child(n, "apiVersion") != nil {
		r.Documents = []Document{{File: d.src.file, Path: path, Node: n}}
		return
	}
	type fileRule struct {
		File string `yaml:"file" spec:"required"`
	}
	var f fileRule
	d.decodeStruct(n, reflect.ValueOf(&f).Elem(), path)
	r.File = f.File
}

// child is the value of a key of a mapping, nil when it has none.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolve(n.Content[i+1])
		}
	}
	return nil
}
