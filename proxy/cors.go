package proxy

import (
	"meshtest.dev/meshtest/proxy/http1"
	"meshtest.dev/meshtest/proxy/route"
)

// preflight answers a web page that asks beforehand what it may do, and reports whether it did. Any other request of a page goes on, and its answer says who may see it.
func (s *stream) preflight(c *route.CORS) bool {
	edits, answered := c.Preflight(s.scratch.edits[:0], &s.req)
	if !answered {
		edits = c.Actual(edits, &s.req)
	}
	applyEdits(&s.replies, edits)
	clear(edits)
	s.scratch.edits = edits[:0]
	if answered {
		s.reply(&http1.Reply{Status: 200, Body: []byte{}}, ReasonPreflight, 0)
	}
	return answered
}
