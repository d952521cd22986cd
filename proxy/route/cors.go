package route

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"meshtest.dev/meshtest/mesh"
)

// CORS is a compiled mesh.CORS: what pages of other origins may do. It is immutable.
//
// It answers as Envoy's filter does, on which Istio's corsPolicy rests: an allowed origin is said back as it came, and a preflight's "*" for methods and headers is answered by those that it asks for. So
// no answer holds a "*" but one that exposes all headers to requests without credentials. Beyond Envoy, an answer that depends on the origin tells caches so (Vary), which the Fetch standard asks for.
type CORS struct {
	origins     []test
	any         bool // origin is allowed
	answerAll   bool
	credentials bool
	methods     string // for the answer; "*": what is asked for
	headers     string
	expose      string // empty: nothing is said
	maxAge      string // in seconds; empty: nothing is said
}

func compileCORS(c *mesh.CORS) (*CORS, error) {
	if c == nil {
		return nil, nil
	}
	out := &CORS{answerAll: c.AnswerAll, credentials: c.Credentials, methods: wordsOf(c.Methods), headers: wordsOf(c.Headers), expose: wordsOf(c.Expose)}
	var errs []error
	for i := range c.Origins {
		t, err := compileText(&c.Origins[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("cors: origin %d: %w", i, err))
			continue
		}
		out.origins = append(out.origins, t)
		out.any = out.any || t.holds([]byte("*")) // as in Envoy
	}
	if out.expose == "*" && c.Credentials {
		out.expose = "" // it would be the name of a header
	}
	if c.MaxAge > 0 {
		out.maxAge = strconv.Itoa(int(c.MaxAge.Seconds()))
	}
	return out, errors.Join(errs...)
}

// wordsOf is a list as a header has it. A "*" stands for all words.
func wordsOf(list []string) string {
	if slices.Contains(list, "*") {
		return "*"
	}
	return strings.Join(list, ",")
}

// origin is the origin of a request to which CORS has something to say, and whether it is allowed; empty: there is none.
func (c *CORS) origin(req Request) (origin []byte, allowed bool) {
	if c == nil {
		return nil, false
	}
	origin = first(req, "origin")
	if len(origin) == 0 {
		return nil, false
	}
	return origin, c.any || slices.ContainsFunc(c.origins, func(t test) bool { return t.holds(origin) })
}

// Preflight reports whether the request is a preflight that is answered here, with 200 and without a body, and appends the headers of the answer. Their values may be bytes of the request seen as strings: they
// hold only as long as it does. c may be nil.
func (c *CORS) Preflight(dst []Edit, req Request) (headers []Edit, answered bool) {
	origin, allowed := c.origin(req)
	asked := origin != nil && string(req.MethodName()) == "OPTIONS"
	if !asked {
		return dst, false
	}
	method := first(req, "access-control-request-method")
	switch {
	case len(method) == 0:
		return dst, false
	case !allowed:
		return dst, c.answerAll
	}
	dst = c.allow(dst, origin)
	dst = setIfAny(dst, "access-control-allow-methods", granted(c.methods, method))
	dst = setIfAny(dst, "access-control-allow-headers", granted(c.headers, first(req, "access-control-request-headers")))
	return setIfAny(dst, "access-control-max-age", c.maxAge), true
}

// Actual appends what the answer to any other request says to the page's browser, in place of what it says by itself; nothing when the request has no origin, or one that is not allowed. The values are as in
// [CORS.Preflight]. c may be nil.
func (c *CORS) Actual(dst []Edit, req Request) []Edit {
	origin, allowed := c.origin(req)
	if !allowed {
		return dst
	}
	dst = c.allow(dst, origin)
	dst = setIfAny(dst, "access-control-expose-headers", c.expose)
	return append(dst, Edit{AddHeader, "vary", "origin"})
}

func (c *CORS) allow(dst []Edit, origin []byte) []Edit {
	dst = append(dst, Edit{SetHeader, "access-control-allow-origin", seen(origin)})
	if c.credentials {
		dst = append(dst, Edit{SetHeader, "access-control-allow-credentials", "true"})
	}
	return dst
}

// granted are the words, or all that were asked for.
func granted(words string, asked []byte) string {
	if words == "*" {
		return seen(asked)
	}
	return words
}

func setIfAny(dst []Edit, name, value string) []Edit {
	if value == "" {
		return dst
	}
	return append(dst, Edit{SetHeader, name, value})
}

// first is the value of the first header line of that name, nil when there is none.
func first(req Request, name string) []byte {
	i := req.Find(name)
	if i < 0 {
		return nil
	}
	return req.Value(i)
}

// seen is the bytes seen as a string.
func seen(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
