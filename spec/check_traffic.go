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
		if l.GRPC != nil {
			c.call(path, l)
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

var callMethod = regexp.MustCompile(`^/[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*$`)

// call checks a stream of calls of gRPC. Their messages were encoded when the files were read.
func (c *checker) call(path string, l Stream) {
	for _, field := range []string{"method", "path", "body"} {
		if where := join(path, field); c.written(where) {
			c.problem("MT1207", where, field+" is not for a call of gRPC", "its own words are below grpc: method, proto and message")
		}
	}
	where := join(path, "grpc")
	if l.GRPC.Method != "" && !callMethod.MatchString(l.GRPC.Method) {
		c.problem("MT1105", join(where, "method"), fmt.Sprintf("%q is not a method", shorten(l.GRPC.Method)), "such as /package.Service/Method")
	}
	if c.written(join(where, "message")) && !c.written(join(where, "proto")) {
		c.problem("MT1103", join(where, "message"), "a message needs the field \"proto\", which says what is in it", "")
	}
	if svc := c.Services[l.Target]; svc != nil && svc.Protocol == "http" {
		c.problem("MT1211", join(path, "target"), fmt.Sprintf("calls of gRPC are HTTP/2, and %s speaks HTTP/1.1", l.Target), "give the service protocol: grpc")
	}
}

func (c *checker) request(path string, l Stream) {
	if l.GRPC == nil && !token.MatchString(l.Method) {
		c.problem("MT1105", join(path, "method"), fmt.Sprintf("%q is not a method", shorten(l.Method)), "such as GET")
	}
	if l.GRPC == nil && !strings.HasPrefix(l.Path, "/") || l.GRPC == nil && strings.ContainsAny(l.Path, " \t\r\n#") {
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
