// Command gen writes the JSON Schema of the scenario format, generated from the types and doc comments of package spec, so that editors complete and explain
// scenarios. It runs in the folder of that package, by go generate.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"meshtest.dev/meshtest/spec"
)

func main() {
	out := flag.String("o", "", "file to write")
	flag.Parse()
	schema, err := generate()
	if err == nil {
		err = os.WriteFile(*out, schema, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate the schema:", err)
		os.Exit(1)
	}
}

// draft07 is what editors' YAML support validates; later drafts are not understood everywhere.
const draft07 = "http://json-schema.org/draft-07/schema#"

// generate returns the schema. The working directory must be the folder of package spec, for the comments.
func generate() ([]byte, error) {
	r := &jsonschema.Reflector{FieldNameTag: "yaml", Anonymous: true, ExpandedStruct: true, RequiredFromJSONSchemaTags: true, Mapper: scalar}
	if err := r.AddGoComments("meshtest.dev/meshtest/spec", ".", jsonschema.WithFullComment()); err != nil {
		return nil, fmt.Errorf("read comments: %w", err)
	}
	root := r.Reflect(&spec.Scenario{})
	constrain(reflect.TypeFor[spec.Scenario](), root, root.Definitions)
	delete(root.Definitions, "Scenario")
	root.Version, root.ID, root.Title = draft07, "https://meshtest.dev/schema/scenario.v1.schema.json", "meshtest scenario"
	b, err := json.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	b = bytes.ReplaceAll(b, []byte(`"$defs"`), []byte(`"definitions"`))
	b = bytes.ReplaceAll(b, []byte(`"#/$defs/`), []byte(`"#/definitions/`))
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, b, "", "  "); err != nil {
		return nil, fmt.Errorf("indent: %w", err)
	}
	pretty.WriteByte('\n')
	return pretty.Bytes(), nil
}

// Patterns of scalars that are written as one word.
const (
	labelPattern    = `^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`
	decimal         = `[0-9]+(\.[0-9]+)?`
	durationPattern = `^(` + decimal + `(ns|us|µs|ms|s|m|h))+$`
	percentPattern  = `^` + decimal + `%?$`
	ratePattern     = `^` + decimal + `/[smh]$`
)

// scalar is the schema of the types that are written as one word, in every spelling that is accepted.
func scalar(t reflect.Type) *jsonschema.Schema {
	text := func(pattern string, examples ...any) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Examples: examples}
	}
	number := &jsonschema.Schema{Type: "number"}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{text(durationPattern, "30s", "250ms"), {Const: 0}}}
	case reflect.TypeFor[spec.Rate]():
		return text(ratePattern, "200/s", "50/m")
	case reflect.TypeFor[spec.Percent]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{number, text(percentPattern, "5%")}}
	case reflect.TypeFor[spec.Bound]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{number, text(percentPattern, "99%"), text(durationPattern, "500ms")}}
	case reflect.TypeFor[spec.Percentage]():
		value := jsonschema.NewProperties()
		value.Set("value", scalar(reflect.TypeFor[spec.Percent]()))
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{number, text(percentPattern, "5%"),
			{Type: "object", Properties: value, Required: []string{"value"}, AdditionalProperties: jsonschema.FalseSchema}}}
	case reflect.TypeFor[spec.Rule]():
		return rule()
	case reflect.TypeFor[spec.Message]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "object"}, {Type: "string"}, number, {Type: "boolean"}, {Type: "array"}}}
	case reflect.TypeFor[map[string]string]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, number, {Type: "boolean"}}}}
	default:
		return nil
	}
}

// family is documents of some APIs: their kinds, and the fields beside apiVersion, kind and metadata.
type family struct {
	versions, kinds, fields []string
	description             string
}

var families = []family{
	{[]string{"networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"}, []string{"VirtualService", "DestinationRule", "ServiceEntry", "Gateway"},
		[]string{"spec"}, "As in Istio. What is not honoured yet is an error."},
	{[]string{"config.istio.io/v1alpha2"}, []string{"EgressRule"}, []string{"spec"}, "As in Istio before 0.8."},
	{[]string{"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"}, []string{"Gateway", "HTTPRoute", "GRPCRoute", "ReferenceGrant"},
		[]string{"spec"}, "As in the Gateway API. What is not honoured yet is an error."},
	{[]string{"meshtest.dev/v1"}, []string{"HealthCheckPolicy", "RateLimitPolicy"}, []string{"spec"}, "What neither Istio nor the Gateway API has a word for."},
	{[]string{"v1"}, []string{"Namespace"}, nil, ""},
	{[]string{"v1"}, []string{"Secret"}, []string{"type", "data", "stringData"}, ""},
}

// rule is a file of documents or one document, whose fields are those of its API.
func rule() *jsonschema.Schema {
	file := jsonschema.NewProperties()
	file.Set("file", &jsonschema.Schema{Type: "string",
		Description: "YAML file with one or more documents of Istio, the Gateway API or meshtest.dev, relative to the scenario's folder, which it may not leave."})
	metadata := jsonschema.NewProperties()
	metadata.Set("name", &jsonschema.Schema{Type: "string"})
	metadata.Set("namespace", &jsonschema.Schema{Type: "string"})
	metadata.Set("labels", &jsonschema.Schema{Type: "object"})
	metadata.Set("annotations", &jsonschema.Schema{Type: "object"})
	all := []*jsonschema.Schema{{Type: "object", Properties: file, Required: []string{"file"}, AdditionalProperties: jsonschema.FalseSchema}}
	for _, f := range families {
		document, required := jsonschema.NewProperties(), []string{"apiVersion", "kind", "metadata"}
		document.Set("apiVersion", &jsonschema.Schema{Enum: words(f.versions)})
		document.Set("kind", &jsonschema.Schema{Enum: words(f.kinds)})
		document.Set("metadata", &jsonschema.Schema{Type: "object", Properties: metadata, Required: []string{"name"}, AdditionalProperties: jsonschema.FalseSchema})
		for _, name := range f.fields {
			field := &jsonschema.Schema{Type: "object", Description: f.description}
			if name == "type" {
				field = &jsonschema.Schema{Type: "string"}
			}
			document.Set(name, field)
			if name == "spec" {
				required = append(required, name)
			}
		}
		all = append(all, &jsonschema.Schema{Type: "object", Properties: document, Required: required, AdditionalProperties: jsonschema.FalseSchema})
	}
	return &jsonschema.Schema{OneOf: all}
}

func words(list []string) (all []any) {
	for _, word := range list {
		all = append(all, word)
	}
	return all
}

// exactlyOne are the types of which exactly one field is set; atMostOne may also be empty in some places.
var (
	exactlyOne = []reflect.Type{reflect.TypeFor[spec.Step]()}
	atMostOne  = []reflect.Type{reflect.TypeFor[spec.StringMatch]()}
)

// forms are the types that come in several forms, by the fields that each form needs.
var forms = map[reflect.Type][]form{
	reflect.TypeFor[spec.Run]():    {{one: []string{"fixture"}}, {one: []string{"command"}}, {one: []string{"image", "manifest"}}},
	reflect.TypeFor[spec.Hook]():   {{one: []string{"command"}}, {one: []string{"job"}}},
	reflect.TypeFor[spec.Stream](): {{one: []string{"target"}}, {one: []string{"gateway"}, all: []string{"host"}}},
	reflect.TypeFor[spec.Fault](): {
		{one: []string{spec.FaultAbort, spec.FaultDelay}, all: []string{"from", "to"}},
		{one: []string{spec.FaultPodKill}}, {one: []string{spec.FaultNodeDrain}}, {one: []string{spec.FaultControlKill}}, {one: []string{spec.FaultScale}},
	},
}

// form is one of several forms: it has at least one of some fields, and all of others.
type form struct{ one, all []string }

func (f form) schema() *jsonschema.Schema {
	s := &jsonschema.Schema{Required: f.all}
	if len(f.one) == 1 {
		s.Required = append(slices.Clone(f.one), f.all...)
		return s
	}
	for _, name := range f.one {
		s.AnyOf = append(s.AnyOf, &jsonschema.Schema{Required: []string{name}})
	}
	return s
}

// constrain adds to the schema of a struct, and of every struct that it holds, what the tags say, and puts a description beside a reference where draft 7 would
// not see it.
func constrain(t reflect.Type, s *jsonschema.Schema, defs jsonschema.Definitions) {
	if s == nil || s.Properties == nil || s.MinProperties != nil || len(s.Required) > 0 || len(s.OneOf) > 0 {
		return // not a struct, or done
	}
	for _, f := range forms[t] {
		s.OneOf = append(s.OneOf, f.schema())
	}
	one := uint64(1)
	if slices.Contains(exactlyOne, t) {
		s.MinProperties, s.MaxProperties = &one, &one
	}
	if slices.Contains(atMostOne, t) {
		s.MaxProperties = &one
	}
	for _, f := range spec.Fields(t) {
		property, _ := s.Properties.Get(f.Name)
		if f.Required {
			s.Required = append(s.Required, f.Name)
		}
		ft := t.Field(f.Index).Type
		restrict(property, f, ft)
		if property.Ref != "" {
			property.AllOf, property.Ref = []*jsonschema.Schema{{Ref: property.Ref}}, ""
		}
		property.Description = oneLine(property.Description)
		for ft.Kind() == reflect.Pointer || ft.Kind() == reflect.Slice || ft.Kind() == reflect.Map {
			ft = ft.Elem()
		}
		if def := defs[ft.Name()]; def != nil && ft.Kind() == reflect.Struct {
			def.Description = oneLine(def.Description)
			constrain(ft, def, defs)
		}
	}
	s.Description = oneLine(s.Description)
}

// restrict adds the constraints of a field to its schema, or to that of its elements.
func restrict(s *jsonschema.Schema, f spec.Field, t reflect.Type) {
	switch {
	case s.Type == "array":
		restrict(s.Items, f, t.Elem())
		return
	case t.Kind() == reflect.Map:
		if f.Label {
			s.PropertyNames = &jsonschema.Schema{Pattern: labelPattern}
		}
		return
	case f.Enum != nil:
		s.Type, s.Enum = "", nil
		for _, e := range f.Enum {
			s.Enum = append(s.Enum, e)
		}
		return
	case f.Label:
		s.Pattern = labelPattern
	}
	if f.Positive && len(s.AnyOf) == 2 && s.AnyOf[1].Const == 0 {
		s.AnyOf = s.AnyOf[:1] // a duration that cannot be 0
	}
	limits := s
	if len(s.AnyOf) > 0 && s.AnyOf[0].Type == "number" {
		limits = s.AnyOf[0]
	}
	if limits.Type != "number" && limits.Type != "integer" {
		return
	}
	if !math.IsInf(f.Min, -1) {
		limits.Minimum = json.Number(strconv.FormatFloat(f.Min, 'f', -1, 64))
	}
	if !math.IsInf(f.Max, 1) {
		limits.Maximum = json.Number(strconv.FormatFloat(f.Max, 'f', -1, 64))
	}
	if k := t.Kind(); f.Positive {
		limits.Minimum = "1"
	} else if (k == reflect.Uint64 || k == reflect.Uint32 || (k == reflect.Pointer && t.Elem().Kind() == reflect.Uint64)) && limits.Minimum == "" {
		limits.Minimum = "0"
	}
}

// oneLine joins the lines of a comment.
func oneLine(comment string) string { return strings.Join(strings.Fields(comment), " ") }
