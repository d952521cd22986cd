package mesh

import "time"

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
	Sticky   *Sticky         `json:"sticky,omitempty"`
	Rewrite  *Rewrite        `json:"rewrite,omitempty"`
	Request  HeaderChange    `json:"request,omitzero"`
	Response HeaderChange    `json:"response,omitzero"`
	Timeout  time.Duration   `json:"timeout,omitempty"` // of the whole request, retries included; 0: none
	Retry    *Retry          `json:"retry,omitempty"`
}

// Match is a conjunction of conditions on a request.
type Match struct {
	Path           *StringMatch          `json:"path,omitempty"` // without the query
	IgnorePathCase bool                  `json:"ignorePathCase,omitempty"`
	Method         *StringMatch          `json:"method,omitempty"`
	Authority      *StringMatch          `json:"authority,omitempty"`
	Headers        map[string]HeaderTest `json:"headers,omitempty"`        // by lower-case name
	WithoutHeaders map[string]HeaderTest `json:"withoutHeaders,omitempty"` // none of these may hold
	Query          map[string]HeaderTest `json:"query,omitempty"`
	SourceLabels   Labels                `json:"sourceLabels,omitempty"` // of the calling workload
	Port           int                   `json:"port,omitempty"`         // 0: any
}

// StringMatch is one test of a string; exactly one field is set. Regex is RE2 and must match the whole string.
type StringMatch struct {
	Exact  *string `json:"exact,omitempty"`
	Prefix *string `json:"prefix,omitempty"`
	Regex  *string `json:"regex,omitempty"`
}

// HeaderTest tests one header or query parameter: that it is there, or that its value matches.
type HeaderTest struct {
	Present bool         `json:"present,omitempty"`
	Value   *StringMatch `json:"value,omitempty"`
}

// Destination is one arm of a split. Weights are relative to their sum.
type Destination struct {
	Host     string       `json:"host"`
	Subset   string       `json:"subset,omitempty"`
	Port     int          `json:"port"`
	Weight   uint32       `json:"weight"`
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
	Host   string `json:"host,omitempty"`
	Port   int    `json:"port,omitempty"`
	Path   string `json:"path,omitempty"`
	Code   int    `json:"code"` // 301, 302, 303, 307 or 308
}

// DirectResponse answers from the sidecar.
type DirectResponse struct {
	Status int    `json:"status"`
	Body   []byte `json:"body,omitempty"`
}

// Rewrite changes the request's path or authority on its way. Path replaces the matched prefix, or the whole path on an exact match.
type Rewrite struct {
	Path      string `json:"path,omitempty"`
	Authority string `json:"authority,omitempty"`
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
)

// DefaultBackoffBase is the base of the full-jitter back-off: the wait before retry n is uniform in [0, min(base*(2^n-1), 10*base)), as in Envoy.
const DefaultBackoffBase = 25 * time.Millisecond

// RetriesBudget caps retries in flight at a share of the requests in flight, and at least MinConcurrency (Envoy: 20 %, 3).
type RetriesBudget struct {
	Percent        float64 `json:"percent"`
	MinConcurrency int     `json:"minConcurrency"`
}
