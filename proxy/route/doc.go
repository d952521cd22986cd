// Package route decides, in the middle of the proxy's work, where a request goes: it compiles a sidecar's configuration into a router that finds the first matching
// rule of a host and the arm of its split.
//
// The router is immutable and pure: seed and request key come in, a rule and an arm go out. The same compiled rules carry the traffic ([Table.Lookup]) and
// explain it ([Router.Explain]), so that an explanation cannot differ from what happens.
//
// # How a request is matched
//
//   - Rules are tried in the table's order, the matches of a rule in theirs; the first that holds wins. All conditions of a match must hold.
//   - The path is the normalised one, without the query. Prefixes are prefixes of the string, as in Istio; only PathPrefix is one of its elements, as in HTTPRoute. IgnorePathCase folds ASCII letters in
//     exact and prefix tests; a regular expression says (?i) itself.
//   - The authority is compared as sent, port included and case-sensitively, as in Istio. Hosts compares the name in it alone, in any case; where what follows the colon is no port, there is no name.
//   - A header that occurs several times has one value: all of them in order, joined by a comma without a space, as in Envoy.
//   - A query parameter is compared as sent, without decoding, and the first of several counts, as in Envoy.
//   - WithoutHeaders holds when no listed test does; in particular when the header is missing.
//   - SourceLabels, SourceNamespace and Port do not depend on the request: a match that wants others than those of the caller and the table can never hold here, and is not tried.
//   - A connection of which no requests are understood ([Table.LookupTLS]) satisfies the matches that test nothing but its server name, the caller and the port; a request satisfies none that tests a server name.
//
// # What the winner does
//
// CORS is asked first: a preflight may be answered before anything else happens. A rule then redirects, answers, or chooses an arm of its split; an arm that leads nowhere has the status with which it refuses.
// What is sent on goes with the path of [Hit.AppendPath] and the arm's edits, and a copy of that to each mirror that draws it. All of it is resolved when a table is compiled, and nothing is allocated for a
// request but by a rewrite by a regular expression.
package route

// Request is what the router sees of a request. *http1.Head is one.
//
// Header lines are numbered in order of arrival, as in http1.Head. Returned slices are only read, and not kept.
type Request interface {
	// MethodName is the method as sent.
	MethodName() []byte
	// Path is the normalised path, without the query.
	Path() []byte
	// Query is what follows the question mark, as sent.
	Query() []byte
	// Host is the authority, host[:port], as sent.
	Host() []byte
	// Find gives the number of the first header line with that (lower-case) name, -1 when there is none.
	Find(name string) int
	// Next gives the number of the next line behind i with the same name, -1 when there is none.
	Next(i int) int
	// Value gives the value of header line i, without the whitespace around it.
	Value(i int) []byte
}
