package spec

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// Condition is a compiled condition on the result of a query, in the language and with the functions that Argo Rollouts gives its authors.
type Condition struct {
	text    string
	program *vm.Program
}

// maxConditionNodes bounds the size of a condition; it also bounds its running time, as the language has no unbounded loop over a number.
const maxConditionNodes = 200

// CompileCondition compiles a condition, such as "result < 500". It must be a truth value; it can use result (a number), asInt, asFloat, isNaN, isInf and default.
func CompileCondition(text string) (*Condition, error) {
	if text == "" {
		return nil, errors.New("the condition is empty")
	}
	program, err := expr.Compile(text, expr.Env(conditionEnv(0)), expr.AsBool(), expr.MaxNodes(maxConditionNodes))
	if err != nil {
		return nil, fmt.Errorf("compile condition: %w", err)
	}
	return &Condition{text: text, program: program}, nil
}

// Holds reports whether the condition holds for a result.
func (c *Condition) Holds(result float64) (bool, error) {
	out, err := expr.Run(c.program, conditionEnv(result))
	if err != nil {
		return false, fmt.Errorf("evaluate condition %q: %w", c.text, err)
	}
	holds, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("evaluate condition %q: the result is %T, not a truth value", c.text, out)
	}
	return holds, nil
}

// String returns the condition as it is written.
func (c *Condition) String() string { return c.text }

func conditionEnv(result float64) map[string]any {
	return map[string]any{
		"result":  result,
		"asInt":   func(v any) (int, error) { f, err := toFloat(v); return int(f), err },
		"asFloat": toFloat,
		"isNaN":   math.IsNaN,
		"isInf":   func(f float64) bool { return math.IsInf(f, 0) },
		"default": func(v, otherwise any) any {
			if v == nil {
				return otherwise
			}
			return v
		},
	}
}

func toFloat(v any) (float64, error) {
	switch n := v.(type) {
	case float64:
		return n, nil
	case int:
		return float64(n), nil
	case string:
		f, err := strconv.ParseFloat(n, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number", n)
		}
		return f, nil
	default:
		return 0, fmt.Errorf("%v is not a number", v)
	}
}
