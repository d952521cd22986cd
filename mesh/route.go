package mesh

import (
	"regexp"
	"strings"
	"time"
)

// RouteTable decides where the requests for one port of a host go; the resource's name is [HostPort]. The list is in order of precedence,
// whatever the source's own rule of precedence was: VirtualService takes the first match, HTTPRoute the most specific.
type RouteTable struct {
	Host   string  `json:"host"`
	Port   int     `json:"port"`
	Routes []Route `json:"routes"`
}

// Route is one rule. A request that satisfies any of Matches (or there are none) takes it; exactly one of Split, Redirect and Direct acts.
type Route struct {
	Name     string          `json:"name"` // unique in its table; evidence and `why` name it
	Origin   string          `json:"origin,omitempty"`
	Matches  []Match         `json:"matches,omitempty"`
	Split    []Destination   `json:"split,omitempty"`
	Redirect *Redirect       `json:"redirect,omitempty"`
	Direct   *DirectResponse `json:"direct,omitempty"`
	Mirrors  []Mirror        `json:"mirrors,omitempty"` // beside the split
	CORS     *CORS           `json:"cors,omitempty"`    // before any action
	Sticky   *Sticky         `json:"sticky,omitempty"`
	Rewrite  *Rewrite        `json:"rewrite,omitempty"`
	Request  HeaderChange    `json:"request,omitzero"`
	Response HeaderChange    `json:"response,omitzero"`
	Timeout  time.Duration   `json:"timeout,omitempty"` // of the whole request, retries included; 0: none
	Retry    *Retry          `json:"retry,omitempty"`
}

// Match is a conjunction of conditions on a request.
type Match struct {
	Path           *StringMatch `json:"path,omitempty"` // without the query
	IgnorePathCase bool         `json:"ignorePathCase,omitempty"`
	Method         *StringMatch `json:"method,omitempty"`
	Authority      *StringMatch `json:"authority,omitempty"`
	// Hosts are those that the authority may name, without its port and in any case: a.example.com, or *.example.com for one or more labels before that suffix. In lower case; none: any.
	Hosts          []string              `json:"hosts,omitempty"`
	Headers        map[string]HeaderTest `json:"headers,omitempty"`        // by lower-case name
	WithoutHeaders map[string]HeaderTest `json:"withoutHeaders,omitempty"` // none of these may hold
	Query          map[string]HeaderTest `json:"query,omitempty"`
	SourceLabels   Labels                `json:"sourceLabels,omitempty"` // of the calling workload
	// SourceNamespace is that of the calling workload (logical); empty: any. A route of the consumers of a service is for theirs alone.
	SourceNamespace string `json:"sourceNamespace,omitempty"`
	Port            int    `json:"port,omitempty"` // 0: any
	// SNI are the server names, as in Hosts, of which a TLS connection that is not terminated must ask for one. A match with it is for connections, and tests nothing of requests.
	SNI []string `json:"sni,omitempty"`
}

// TakesAll reports whether every request or connection satisfies the match: it has no condition, but perhaps one on the path that every path meets.
func (m Match) TakesAll() bool {
	root := func(prefix *string) bool { return prefix != nil && *prefix == "/" }
	return (m.Path == nil || root(m.Path.Prefix) || root(m.Path.PathPrefix)) && m.Method == nil && m.Authority == nil && m.SourceNamespace == "" && m.Port == 0 &&
		len(m.Hosts)+len(m.Headers)+len(m.WithoutHeaders)+len(m.Query)+len(m.SourceLabels)+len(m.SNI) == 0
}

// StringMatch is one test of a string; exactly one field is set. Regex is RE2 and must match the whole string.
type StringMatch struct {
	Exact  *string `json:"exact,omitempty"`
	Prefix *string `json:"prefix,omitempty"`
	Regex  *string `json:"regex,omitempty"`
	// PathPrefix is a prefix by the elements of a path, as in HTTPRoute: /foo is one of /foo, /foo/ and /foo/bar, and not of /foobar. It begins with a slash, and none but the root ends
	// with one. Only a test of a path can be one.
	PathPrefix *string `json:"pathPrefix,omitempty"`
}

// Holds reports whether a value passes the test; nil: every value does. An expression has to match the whole value; one that is wrong matches none. A router compiles tests instead.
func (m *StringMatch) Holds(value string) bool {
	switch {
	case m == nil:
		return true
	case m.Exact != nil:
		return value == *m.Exact
	case m.Prefix != nil:
		return strings.HasPrefix(value, *m.Prefix)
	case m.PathPrefix != nil:
		rest, ok := strings.CutPrefix(value, strings.TrimSuffix(*m.PathPrefix, "/"))
		return ok && (rest == "" || rest[0] == '/')
	case m.Regex != nil:
		whole, err := regexp.Compile(`\A(?:` + *m.Regex + `)\z`)
		return err == nil && whole.MatchString(value)
	default:
		return true
	}
}

// HeaderTest tests one header or query parameter: that it is there, or that its value matches.
type HeaderTest struct {
	Present bool         `json:"present,omitempty"`
	Value   *StringMatch `json:"value,omitempty"`
}

// Destination is one arm of a split. Weights are relative to their sum.
type Destination struct {
	Host   string `json:"host"`
	Subset string `json:"subset,omitempty"`
	Port   int    `json:"port"`
	Weight uint32 `json:"weight"`
	// Refuse is the status with which requests are answered that choose this arm, because what it was to lead to does not exist or must not be reached: Host and Port are empty then.
	// 0: they are sent on.
	Refuse   int          `json:"refuse,omitempty"`
	Request  HeaderChange `json:"request,omitzero"`
	Response HeaderChange `json:"response,omitzero"`
}

// Sticky keys a split by something of the user instead of the request: a header or a cookie. Without it on a request, the request key decides.
type Sticky struct {
	Header string `json:"header,omitempty"`
	Cookie string `json:"cookie,omitempty"`
}

// Redirect answers with a redirection; empty parts keep the request's own.
type Redirect struct {
	Scheme string `json:"scheme,omitempty"`
	Host   string `json:"host,omitempty"` // may have a port of its own
	// Port is not written when it is that of the scheme anyway. 0: none beside a Host; else that of the request, unless it is the one of the request's scheme, and the scheme changes.
	Port int    `json:"port,omitempty"`
	Path string `json:"path,omitempty"` // may have a query, which takes the place of the request's
	// PathPrefix takes the place of the prefix that matched (see [Rewrite.Path]); it excludes Path.
	PathPrefix string `json:"pathPrefix,omitempty"`
	Code       int    `json:"code"` // 301, 302, 303, 307 or 308
}

// DirectResponse answers from the sidecar.
type DirectResponse struct {
	Status int    `json:"status"`
	Body   []byte `json:"body,omitempty"`
}

// Rewrite changes the request's path or authority on its way. Path replaces the matched prefix, or the whole path on any other match; FullPath the whole path, whatever
// matched; Regex what it finds. Only one of them is set.
//
// The prefix of a match by PathPrefix is replaced by elements: what follows it, which is nothing or begins with a slash, is put behind Path without a slash at its end, and an empty result is "/". The
// prefix "/" is the empty one: all of the path follows it.
type Rewrite struct {
	Path      string        `json:"path,omitempty"`
	FullPath  string        `json:"fullPath,omitempty"`
	Regex     *RegexRewrite `json:"regex,omitempty"`
	Authority string        `json:"authority,omitempty"`
}

// RegexRewrite replaces everything in a path that an expression (RE2) finds. In the replacement \1 to \9 stand for what its groups found, \0 for all that it found, and \\ for a backslash.
type RegexRewrite struct {
	Find    string `json:"find"`
	Replace string `json:"replace"`
}

// Mirror sends a copy of a share of the requests elsewhere, and forgets what is answered there.
type Mirror struct {
	Host   string  `json:"host"`
	Subset string  `json:"subset,omitempty"`
	Port   int     `json:"port"`
	Share  float64 `json:"share"` // 0 to 1
}

// CORS says which web pages of other origins may see the answers. The sidecar answers preflight requests itself.
type CORS struct {
	Origins     []StringMatch `json:"origins,omitempty"`     // tests of the Origin header, which has its scheme and host in lower case; the empty Prefix allows any
	Methods     []string      `json:"methods,omitempty"`     // "*": any
	Headers     []string      `json:"headers,omitempty"`     // of requests; "*": any
	Expose      []string      `json:"expose,omitempty"`      // of answers; "*": any
	Credentials bool          `json:"credentials,omitempty"` // cookies and the like are allowed; then no answer holds a "*"
	MaxAge      time.Duration `json:"maxAge,omitempty"`      // how long a preflight's answer may be kept; 0: not said
	AnswerAll   bool          `json:"answerAll,omitempty"`   // preflights of other origins are answered too, without any permission, and are not sent on like other requests
}

// HeaderChange edits headers: remove, then set, then add.
type HeaderChange struct {
	Set    map[string]string `json:"set,omitempty"`
	Add    map[string]string `json:"add,omitempty"`
	Remove []string          `json:"remove,omitempty"`
}

// IsZero reports whether nothing is changed.
func (h HeaderChange) IsZero() bool { return len(h.Set)+len(h.Add)+len(h.Remove) == 0 }

// Retry says how often, when and how fast a failed attempt is repeated.
type Retry struct {
	Attempts      int            `json:"attempts"`                // retries after the first attempt
	PerTryTimeout time.Duration  `json:"perTryTimeout,omitempty"` // 0: only the route's timeout
	On            []RetryOn      `json:"on"`
	Statuses      []int          `json:"statuses,omitempty"` // for RetriableStatus
	BackoffBase   time.Duration  `json:"backoffBase,omitempty"`
	BackoffMin    time.Duration  `json:"backoffMin,omitempty"` // the wait before a retry is at least this, whatever the jitter says
	Same          bool           `json:"same,omitempty"`       // an endpoint that failed may be tried again at once; else the others come first
	Budget        *RetriesBudget `json:"budget,omitempty"`
}

// RetryOn names a condition, in Envoy's words.
type RetryOn string

// Retry conditions.
const (
	On5xx             RetryOn = "5xx"
	OnGatewayError    RetryOn = "gateway-error" // 502, 503, 504
	OnReset           RetryOn = "reset"
	OnConnectFailure  RetryOn = "connect-failure"
	OnRetriable4xx    RetryOn = "retriable-4xx" // 409
	OnRetriableStatus RetryOn = "retriable-status-codes"
	OnRefusedStream   RetryOn = "refused-stream" // HTTP/2 refused the stream before it was processed
	OnResetBefore     RetryOn = "reset-before-request"
	// gRPC statuses in the head of an answer, never those in trailers.
	OnCancelled         RetryOn = "cancelled"
	OnDeadlineExceeded  RetryOn = "deadline-exceeded"
	OnInternal          RetryOn = "internal"
	OnResourceExhausted RetryOn = "resource-exhausted"
	OnUnavailable       RetryOn = "unavailable"
)

// DefaultRetry is the retry policy of every route whose rules say nothing about retries, as in Istio: two more attempts when no connection could be made, the upstream refused the stream, or a
// gRPC server says in the head of its answer that it is not available.
func DefaultRetry() *Retry {
	return &Retry{Attempts: 2, On: []RetryOn{OnConnectFailure, OnRefusedStream, OnUnavailable, OnCancelled}}
}

// DefaultBackoffBase is the base of the full-jitter back-off: the wait before retry n is uniform in [0, min(base*(2^n-1), 10*base)), as in Envoy.
const DefaultBackoffBase = 25 * time.Millisecond

// RetriesBudget caps retries in flight at a share of the requests in flight, and at least MinConcurrency (Envoy: 20 %, 3).
type RetriesBudget struct {
	Percent        float64 `json:"percent"`
	MinConcurrency int     `json:"minConcurrency"`
}
