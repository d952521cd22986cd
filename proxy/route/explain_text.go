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
func (m *Matcher) explainContext(port int, caller mesh.Workload) []TestTried {
	var tests []TestTried
	if want := m.match.Port; want != 0 {
		tests = append(tests, TestTried{Field: "port", Want: "exactly " + strconv.Itoa(want), Got: strconv.Itoa(port), Held: want == port})
	}
	if want := m.match.SourceNamespace; want != "" {
		got := sourceOf(caller).namespace
		tests = append(tests, TestTried{Field: "sourceNamespace", Want: fmt.Sprintf("exactly %q", want), Got: strconv.Quote(got), Held: got == want})
	}
	for _, name := range slices.Sorted(maps.Keys(m.match.SourceLabels)) {
		want := m.match.SourceLabels[name]
		got, ok := caller.Labels[name]
		tests = append(tests, TestTried{Field: "sourceLabels", Name: name, Want: fmt.Sprintf("exactly %q", want), Got: quoted(got, ok), Held: ok && got == want})
	}
	return tests
}

func (c *condition) explain(req Request) TestTried {
	got, ok := c.value(req)
	return TestTried{Field: c.of.String(), Name: c.name, Want: c.want(), Got: quoted(got, ok), Held: c.holds(req)}
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
	x.writeCORS(&b)
	switch x.Action {
	case ActionNoRule:
		b.WriteString("no rule matches: " + answer(x.Status, "the connection is closed") + "\n")
	case ActionRedirect:
		fmt.Fprintf(&b, "%s answers with a redirect, %d, to %s\n", x.Winner, x.Status, x.Location)
	case ActionDirect:
		fmt.Fprintf(&b, "%s answers by itself, %d\n", x.Winner, x.Status)
	case ActionPreflight:
	default:
		x.writeSplit(&b)
	}
	return b.String()
}

// answer says what the caller gets; a connection, which gets no answer, has no status.
func answer(status int, otherwise string) string {
	if status == 0 {
		return otherwise
	}
	return "the answer is " + strconv.Itoa(status)
}

func (x Explanation) writeCORS(b *strings.Builder) {
	c := x.CORS
	if c == nil || c.Origin == "" {
		return
	}
	fmt.Fprintf(b, "cors: the origin %q is %sallowed", c.Origin, map[bool]string{false: "not "}[c.Allowed])
	if c.Preflight {
		fmt.Fprintf(b, "; %s answers the preflight by itself, %d", x.Winner, x.Status)
	}
	b.WriteString("\n")
	for _, h := range c.Headers {
		fmt.Fprintf(b, "    %s: %s\n", h.Name, h.Value)
	}
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
		fmt.Fprintf(b, "%s %s, weight %d: draws in [%.6f, %.6f)\n", mark, a.name(), a.Weight, a.From, a.To)
		switch {
		case a.Missing != "":
			fmt.Fprintf(b, "    %s: the answer is %d\n", a.Missing, a.Refuse)
		case a.Refuse == 0 && len(a.Endpoints) == 0:
			b.WriteString("    no endpoints\n")
		}
		for _, e := range a.Endpoints {
			fmt.Fprintf(b, "    %s, %s\n", e.name(), e.Health)
		}
	}
	if x.Authority != "" {
		fmt.Fprintf(b, "the authority becomes %s\n", x.Authority)
	}
	if x.Path != "" {
		fmt.Fprintf(b, "the path becomes %s\n", x.Path)
	}
	for _, m := range x.Mirrors {
		fmt.Fprintf(b, "%s to %s: %.6f is %s %v (id %s)\n", map[bool]string{true: "a copy goes", false: "no copy goes"}[m.Copied],
			destination(m.Host, m.Port, m.Subset), m.Chance, map[bool]string{true: "below", false: "not below"}[m.Copied], m.Share, m.ID)
		if m.Missing != "" {
			fmt.Fprintf(b, "    %s\n", m.Missing)
		}
	}
}

// name is that of the instance, with its address when it says more.
func (e EndpointSeen) name() string {
	switch e.Address {
	case "", e.Instance:
		return e.Instance
	default:
		return e.Instance + " at " + e.Address
	}
}

// name is where the arm leads.
func (a ArmSeen) name() string {
	if a.Host == "" {
		return "refused with " + strconv.Itoa(a.Refuse)
	}
	return destination(a.Host, a.Port, a.Subset)
}

func destination(host string, port int, subset string) string {
	if subset == "" {
		return mesh.HostPort(host, port)
	}
	return mesh.HostPort(host, port) + " subset " + subset
}
