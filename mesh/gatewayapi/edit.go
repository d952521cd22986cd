package gatewayapi

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// HeaderRulePrefix begins the names of the rules that a roll-out puts into routes for requests with certain headers.
const HeaderRulePrefix = "rollout-"

// Split names the two arms of a roll-out among the backends of users' HTTPRoutes and GRPCRoutes: two Services. Its methods edit a route as the API server holds it and clients decode it
// from JSON, with maps, lists, strings and numbers: they return a new object and leave the given one as it is. What they do not speak of stays as its author wrote it.
type Split struct {
	Namespace string // of the Services; empty: that of the route
	Stable    string // name of a Service
	Canary    string // name of a Service
}

// Attach makes a route one that can be shifted, with everything on stable: each rule that leads to stable alone gets the canary as a second backend. The error says why there is no rule to shift.
func (s Split) Attach(object map[string]any) (map[string]any, error) {
	return s.edit(object, func(rules []any) ([]any, error) {
		found := false
		for _, r := range rules {
			rule, backends, err := backendsOf(r)
			if err != nil {
				return nil, err
			}
			switch stable, canary := s.find(backends, s.Stable, object), s.find(backends, s.Canary, object); {
			case headerRule(rule) || stable < 0:
				continue
			case canary >= 0 && len(backends) > 2 || canary < 0 && len(backends) > 1:
				return nil, fmt.Errorf("the rule %s splits between more than %s and %s", ruleName(rule), s.Stable, s.Canary)
			case canary < 0:
				arm := clone(backends[0]).(map[string]any)
				arm["name"] = s.Canary
				rule["backendRefs"] = append(backends, arm)
			}
			found = true
			setWeights(rule["backendRefs"].([]any), s.find(rule["backendRefs"].([]any), s.Canary, object), 0)
		}
		if !found {
			return nil, fmt.Errorf("no rule leads to the service %s", s.Stable)
		}
		return rules, nil
	})
}

// WithWeights sends the given percentage (0 to 100) of every rule that splits between exactly the two arms to the canary, and the rest to stable.
func (s Split) WithWeights(object map[string]any, percent int) (map[string]any, error) {
	percent = min(max(percent, 0), 100)
	return s.edit(object, func(rules []any) ([]any, error) {
		found := false
		for _, r := range rules {
			rule, backends, err := backendsOf(r)
			if err != nil {
				return nil, err
			}
			if s.weighted(rule, backends, object) {
				found = true
				setWeights(backends, s.find(backends, s.Canary, object), percent)
			}
		}
		if !found {
			return nil, s.nothingWeighted()
		}
		return rules, nil
	})
}

// Rules are the labels of the rules that WithWeights edits: their names, or their places among all rules.
func (s Split) Rules(object map[string]any) ([]string, error) {
	var labels []string
	_, err := s.edit(object, func(rules []any) ([]any, error) {
		for i, r := range rules {
			rule, backends, err := backendsOf(r)
			if err != nil {
				return nil, err
			}
			if s.weighted(rule, backends, object) {
				labels = append(labels, cmp.Or(ruleName(rule), fmt.Sprint(i)))
			}
		}
		return rules, nil
	})
	return labels, err
}

// WithHeaderRoute puts a rule to the canary before each rule that splits between the two arms, for requests that the rule takes and that have the headers of any of the matches, in place of earlier ones of that
// name. Apart from its matches and backend it is like that rule. It is more specific than that rule, and so comes before it wherever it stands. Without matches the rules of that name are removed.
//
// Only headers can be matched. The error says so, or that the API takes no more rules or matches.
func (s Split) WithHeaderRoute(object map[string]any, name string, matches []mesh.Match) (map[string]any, error) {
	base := HeaderRulePrefix + name
	if !sectionPattern.MatchString(base) {
		return nil, fmt.Errorf("%q cannot be part of the name of a rule", name)
	}
	conditions, err := conditionsOf(matches)
	if err != nil {
		return nil, err
	}
	without := func(rule map[string]any) bool {
		rest, ok := strings.CutPrefix(ruleName(rule), base)
		return ok && numberPattern.MatchString(rest)
	}
	return s.edit(object, func(rules []any) ([]any, error) {
		rules, err := remove(rules, without)
		if err != nil || len(matches) == 0 {
			return rules, err
		}
		var out []any
		made := 0
		for _, r := range rules {
			rule, backends, err := backendsOf(r)
			if err != nil {
				return nil, err
			}
			if s.weighted(rule, backends, object) {
				made++
				own := base
				if made > 1 {
					own += fmt.Sprintf(".%d", made)
				}
				header, err := s.headerRule(rule, backends, own, conditions, object)
				if err != nil {
					return nil, err
				}
				out = append(out, header)
			}
			out = append(out, rule)
		}
		if made == 0 {
			return nil, s.nothingWeighted()
		}
		return out, withinLimits(out)
	})
}

// WithoutHeaderRoutes removes every rule that WithHeaderRoute made, as the end of a roll-out does.
func (s Split) WithoutHeaderRoutes(object map[string]any) (map[string]any, error) {
	return s.edit(object, func(rules []any) ([]any, error) { return remove(rules, headerRule) })
}

var (
	sectionPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	numberPattern  = regexp.MustCompile(`^(\.[0-9]+)?$`) // of the second and following rules of a name
)

func (s Split) nothingWeighted() error {
	return fmt.Errorf("no rule splits between exactly the services %s and %s", s.Stable, s.Canary)
}

// edit changes a copy of a route's rules.
func (s Split) edit(object map[string]any, change func(rules []any) ([]any, error)) (map[string]any, error) {
	kind, _ := object["kind"].(string)
	metadata, _ := object["metadata"].(map[string]any)
	what := fmt.Sprintf("editing %s %v/%v", kind, metadata["namespace"], metadata["name"])
	if kind != kindHTTP && kind != kindGRPC {
		return nil, fmt.Errorf("%s: not a route that has weights", what)
	}
	out := clone(object).(map[string]any)
	spec, ok := out["spec"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: it has no spec", what)
	}
	rules, ok := spec["rules"].([]any)
	if !ok {
		return nil, fmt.Errorf("%s: it has no rules", what)
	}
	changed, err := change(rules)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	spec["rules"] = changed
	return out, nil
}

// backendsOf reads the backends of a rule.
func backendsOf(r any) (rule map[string]any, backends []any, err error) {
	rule, ok := r.(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("a rule is not a mapping")
	}
	backends, ok = rule["backendRefs"].([]any)
	if !ok && rule["backendRefs"] != nil {
		return nil, nil, fmt.Errorf("backendRefs of the rule %s is not a list", ruleName(rule))
	}
	for _, b := range backends {
		if _, ok := b.(map[string]any); !ok {
			return nil, nil, fmt.Errorf("a backend of the rule %s is not a mapping", ruleName(rule))
		}
	}
	return rule, backends, nil
}

// find is the place of a Service among backends; -1: it is not there.
func (s Split) find(backends []any, service string, object map[string]any) int {
	metadata, _ := object["metadata"].(map[string]any)
	home := textOf(metadata, "namespace")
	return slices.IndexFunc(backends, func(b any) bool {
		ref := b.(map[string]any)
		return textOf(ref, "name") == service && textOf(ref, "group") == "" && cmp.Or(textOf(ref, "kind"), "Service") == "Service" &&
			cmp.Or(textOf(ref, "namespace"), home) == cmp.Or(s.Namespace, home)
	})
}

// weighted reports whether a rule splits between exactly the two arms, and is no header rule.
func (s Split) weighted(rule map[string]any, backends []any, object map[string]any) bool {
	return len(backends) == 2 && !headerRule(rule) && s.find(backends, s.Stable, object) >= 0 && s.find(backends, s.Canary, object) >= 0
}

// setWeights gives a percentage to the backend at a place, and the rest to the other one.
func setWeights(backends []any, canary, percent int) {
	for i, b := range backends {
		weight := int64(100 - percent)
		if i == canary {
			weight = int64(percent)
		}
		b.(map[string]any)["weight"] = weight
	}
}

// headerRule makes the rule for requests of another rule that satisfy any of the conditions.
func (s Split) headerRule(rule map[string]any, backends []any, name string, conditions [][]any, object map[string]any) (map[string]any, error) {
	out := clone(rule).(map[string]any)
	arm := clone(backends[s.find(backends, s.Canary, object)]).(map[string]any)
	arm["weight"] = int64(1)
	out["name"], out["backendRefs"] = name, []any{arm}
	matches, ok := rule["matches"].([]any)
	if !ok || len(matches) == 0 {
		matches = []any{map[string]any{}}
	}
	var both []any
	for _, m := range matches {
		for _, condition := range conditions {
			own, ok := clone(m).(map[string]any)
			if !ok {
				return nil, fmt.Errorf("a match of the rule %s is not a mapping", ruleName(rule))
			}
			headers, _ := own["headers"].([]any)
			for _, h := range condition {
				name := textOf(h.(map[string]any), "name")
				if slices.ContainsFunc(headers, func(other any) bool {
					o, _ := other.(map[string]any)
					return strings.EqualFold(textOf(o, "name"), name)
				}) {
					return nil, fmt.Errorf("the rule %s matches the header %s already", ruleName(rule), name)
				}
				headers = append(headers, clone(h))
			}
			own["headers"] = headers
			both = append(both, own)
		}
	}
	out["matches"] = both
	return out, nil
}

// conditionsOf says the headers of each match in the words of the API.
func conditionsOf(matches []mesh.Match) ([][]any, error) {
	var out [][]any
	for _, m := range matches {
		headers := m.Headers
		if m.Headers = nil; m.Path != nil || !m.TakesAll() || len(headers) == 0 {
			return nil, fmt.Errorf("a rule of a roll-out can only match headers, and has to")
		}
		var condition []any
		for _, name := range slices.Sorted(maps.Keys(headers)) {
			kind, value := "RegularExpression", ".*"
			switch v := headers[name].Value; {
			case v == nil:
			case v.Exact != nil:
				kind, value = "Exact", *v.Exact
			case v.Prefix != nil:
				value = regexp.QuoteMeta(*v.Prefix) + ".*"
			case v.Regex != nil:
				value = *v.Regex
			}
			if value == "" {
				return nil, fmt.Errorf("the empty value of the header %s cannot be matched", name)
			}
			condition = append(condition, map[string]any{"name": name, "type": kind, "value": value})
		}
		out = append(out, condition)
	}
	return out, nil
}

// withinLimits reports what the API would refuse.
func withinLimits(rules []any) error {
	all := 0
	for _, r := range rules {
		rule := r.(map[string]any)
		matches, _ := rule["matches"].([]any)
		all += len(matches)
		if len(matches) > 64 {
			return fmt.Errorf("the rule %s would have %d matches, and may have 64", ruleName(rule), len(matches))
		}
		for _, m := range matches {
			match, _ := m.(map[string]any)
			if headers, _ := match["headers"].([]any); len(headers) > 16 {
				return fmt.Errorf("a match of the rule %s would have %d headers, and may have 16", ruleName(rule), len(headers))
			}
		}
	}
	if len(rules) > 16 || all > maxMatches {
		return fmt.Errorf("it would have %d rules and %d matches, and may have 16 and %d", len(rules), all, maxMatches)
	}
	return nil
}

// remove leaves out the rules that a test chooses.
func remove(rules []any, chosen func(map[string]any) bool) ([]any, error) {
	var out []any
	for _, r := range rules {
		rule, ok := r.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("a rule is not a mapping")
		}
		if !chosen(rule) {
			out = append(out, rule)
		}
	}
	return out, nil
}

func headerRule(rule map[string]any) bool { return strings.HasPrefix(ruleName(rule), HeaderRulePrefix) }

func ruleName(rule map[string]any) string { return textOf(rule, "name") }

func textOf(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

// clone copies a decoded value with all that is in it.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[key] = clone(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = clone(value)
		}
		return out
	default:
		return v
	}
}
