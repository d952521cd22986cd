package route

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

// explainContext explains the conditions that do not depend on the request.
func (m *Matcher) explainContext(port int, caller mesh.Labels) []TestTried {
	var tests []TestTried
	if m.port != 0 {
		tests = append(tests, TestTried{Field: "port", Want: "exactly " + strconv.Itoa(m.port), Got: strconv.Itoa(port), Held: m.port == port})
	}
	for _, name := range slices.Sorted(maps.Keys(m.labels)) {
		got, ok := caller[name]
		tests = append(tests, TestTried{
			Field: "sourceLabels", Name: name, Want: fmt.Sprintf("exactly %q", m.labels[name]),
			Got: quoted(got, ok), Held: ok && got == m.labels[name],
		})
	}
	return tests
}

func (c *condition) explain(req Request) TestTried {
	got, ok := c.value(req)
	want := c.test.want()
	if c.of == withoutHeader {
		want = "not " + want
	}
	return TestTried{Field: c.of.String(), Name: c.name, Want: want, Got: quoted(got, ok), Held: c.holds(req)}
}

func quoted(value string, present bool) string {
	if !present {
		return "absent"
	}
	return strconv.Quote(value)
}

// String writes the explanation for people, several lines without an indent.
func (x Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s asks for %s", x.Caller, x.Asked)
	if x.Host == "" {
		b.WriteString(": no such host is configured for it\n")
		return b.String()
	}
	if name := mesh.HostPort(x.Host, x.Port); name != x.Asked {
		fmt.Fprintf(&b, ", which is %s", name)
	}
	b.WriteString("\n")
	for i, t := range x.Rules {
		t.write(&b, i)
	}
	switch x.Action {
	case ActionNoRule:
		fmt.Fprintf(&b, "no rule matches: the answer is 404\n")
	case ActionRedirect:
		fmt.Fprintf(&b, "%s answers with a redirect, %d\n", x.Winner, x.Rule.Route.Redirect.Code)
	case ActionDirect:
		fmt.Fprintf(&b, "%s answers by itself, %d\n", x.Winner, x.Rule.Route.Direct.Status)
	default:
		x.writeSplit(&b)
	}
	return b.String()
}

func (t Tried) write(b *strings.Builder, i int) {
	fmt.Fprintf(b, "rule %d %q", i+1, t.Rule)
	if t.Origin != "" {
		fmt.Fprintf(b, " of %s", t.Origin)
	}
	switch {
	case t.Implicit:
		b.WriteString(": there are no rules, every request goes to all endpoints\n")
		return
	case t.Matched && len(t.Matches) == 0:
		b.WriteString(": matches every request\n")
		return
	case t.Matched:
		b.WriteString(": matches\n")
	default:
		b.WriteString(": does not match\n")
	}
	for j, m := range t.Matches {
		fmt.Fprintf(b, "  match %d: %s\n", j+1, verdict(m.Matched))
		for _, test := range m.Tests {
			name := test.Field
			if test.Name != "" {
				name += " " + test.Name
			}
			fmt.Fprintf(b, "    %s %s: want %s, got %s\n", verdict(test.Held), name, test.Want, test.Got)
		}
	}
}

func verdict(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}

func (x Explanation) writeSplit(b *strings.Builder) {
	fmt.Fprintf(b, "%s splits over %d", x.Winner, len(x.Arms))
	if d := x.Draw; d != nil {
		fmt.Fprintf(b, "; %s %q draws %.6f (seed %d, id %s, edge %s)", d.KeyOf, d.Key, d.Chance, d.Seed, d.ID, d.Edge)
	}
	b.WriteString("\n")
	for _, a := range x.Arms {
		mark := " "
		if a.Chosen {
			mark = ">"
		}
		fmt.Fprintf(b, "%s %s", mark, mesh.HostPort(a.Host, a.Port))
		if a.Subset != "" {
			fmt.Fprintf(b, " subset %s", a.Subset)
		}
		fmt.Fprintf(b, ", weight %d: draws in [%.6f, %.6f)\n", a.Weight, a.From, a.To)
		if a.Missing != "" {
			fmt.Fprintf(b, "    %s: the answer is 503\n", a.Missing)
		} else if len(a.Endpoints) == 0 {
			b.WriteString("    no endpoints\n")
		}
		for _, e := range a.Endpoints {
			fmt.Fprintf(b, "    %s at %s, %s\n", e.Instance, e.Address, e.Health)
		}
	}
}
