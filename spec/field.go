package spec

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Field is one field of a scenario type, as its tags describe it: `yaml:"name"` and `spec:"required,name,positive,enum=a|b,min=0,max=100"`. For lists and maps
// the constraints hold for each element, except name, which holds for the keys of a map.
type Field struct {
	Name     string
	Index    int
	Required bool
	Label    bool // a DNS label
	Positive bool // more than 0
	Enum     []string
	Min, Max float64
}

// Fields lists the fields of a struct type in their order. The tags are ours, so a malformed one is a bug and panics.
func Fields(t reflect.Type) []Field {
	var fields []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		out := Field{Name: name, Index: i, Min: math.Inf(-1), Max: math.Inf(1)}
		for _, option := range strings.FieldsFunc(f.Tag.Get("spec"), func(r rune) bool { return r == ',' }) {
			switch word, value, _ := strings.Cut(option, "="); word {
			case "required":
				out.Required = true
			case "name":
				out.Label = true
			case "positive":
				out.Positive = true
			case "enum":
				out.Enum = strings.Split(value, "|")
			case "min", "max":
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					panic(fmt.Sprintf("spec: tag of %s.%s: %v", t, f.Name, err))
				}
				if word == "min" {
					out.Min = n
				} else {
					out.Max = n
				}
			default:
				panic(fmt.Sprintf("spec: tag of %s.%s: unknown option %q", t, f.Name, word))
			}
		}
		fields = append(fields, out)
	}
	return fields
}
