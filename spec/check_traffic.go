package spec

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"meshtest.dev/meshtest/mesh"
)

var streamName = regexp.MustCompile(`^[a-z][a-z0-9]{0,30}$`)

func (c *checker) streams() {
	seen := map[string]bool{}
	for i, l := range c.Load {
		path := index("load", i)
		if l.Name != "" && !streamName.MatchString(l.Name) {
			c.problem("MT1109", join(path, "name"), fmt.Sprintf("%q is not a name of a stream", shorten(l.Name)),
				"a lower-case letter, then lower-case letters and digits, at most 31: the name is part of every request's key")
		}
		c.unique(join(path, "name"), "stream", l.Name, seen)
		c.exactlyOne(path, choice{"target", l.Target != ""}, choice{"gateway", l.Gateway != ""})
		if l.Gateway != "" {
			c.throughGateway(path, l)
		} else {
			c.onlyFor(path, "a stream through a gateway", "host", "port")
		}
		if l.Target != "" && c.service(join(path, "target"), l.Target) && !c.speaksHTTP(l.Target) {
			c.problem("MT1211", join(path, "target"), fmt.Sprintf("load is HTTP, and %s speaks %s", l.Target, c.Services[l.Target].Protocol), "")
		}
		c.request(path, l)
		c.rates(path, l)
		if c.Rollout == nil && l.Duration == 0 && !c.isBad("rollout") {
			c.problem("MT1103", join(path, "duration"), "a duration is needed, as there is no roll-out whose end could end the stream", "such as duration: 10s")
		}
	}
}

// speaksHTTP reports whether requests to a service are understood.
func (c *checker) speaksHTTP(service string) bool {
	return mesh.Protocol(c.Services[service].Protocol).IsHTTP()
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?$`)

// throughGateway checks a stream that enters as from outside. Which gateways there are is known when the rules are compiled.
func (c *checker) throughGateway(path string, l Stream) {
	switch {
	case l.Host == "" && !c.incomplete(path) && !c.written(join(path, "host")):
		c.problem("MT1103", path, "the field \"host\" is missing: a gateway chooses by it", "such as host: books.example.com")
	case l.Host != "" && !hostName.MatchString(l.Host), l.Host == "" && c.written(join(path, "host")):
		c.problem("MT1105", join(path, "host"), fmt.Sprintf("%q is not a host", shorten(l.Host)), "such as books.example.com")
	}
}

func (c *checker) request(path string, l Stream) {
	if !token.MatchString(l.Method) {
		c.problem("MT1105", join(path, "method"), fmt.Sprintf("%q is not a method", shorten(l.Method)), "such as GET")
	}
	if !strings.HasPrefix(l.Path, "/") || strings.ContainsAny(l.Path, " \t\r\n#") {
		c.problem("MT1105", join(path, "path"), "must begin with / and have no blanks and no #", "")
	}
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		where := join(join(path, "headers"), name)
		c.header(where, name, l.Headers[name])
		c.references(where, l.Headers[name], false)
	}
}

func (c *checker) rates(path string, l Stream) {
	c.exactlyOne(path, choice{"rate", l.Rate != 0}, choice{"ramp", l.Ramp != nil}, choice{"steps", len(l.Steps) > 0}, choice{"sine", l.Sine != nil})
	if c.written(join(path, "steps")) && len(l.Steps) == 0 {
		c.problem("MT1103", join(path, "steps"), "at least one step is needed", "")
	}
	if s := l.Sine; s != nil {
		if s.Amplitude > s.Mean {
			c.problem("MT1203", join(path, "sine.amplitude"), "must be at most the mean", "a rate cannot be negative")
		}
	}
}
