package route

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/proxy/http1"
)

// A parsed request is what the router reads.
var _ Request = (*http1.Head)(nil)

func exact(s string) *mesh.StringMatch  { return &mesh.StringMatch{Exact: &s} }
func prefix(s string) *mesh.StringMatch { return &mesh.StringMatch{Prefix: &s} }
func regex(s string) *mesh.StringMatch  { return &mesh.StringMatch{Regex: &s} }

func pathPrefix(s string) *mesh.StringMatch {
	return &mesh.StringMatch{PathPrefix: &s}
}

func header(name string, m *mesh.StringMatch) map[string]mesh.HeaderTest {
	return map[string]mesh.HeaderTest{name: {Value: m, Present: m == nil}}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	twice := []Header{{"X-User", "a"}, {"other", "1"}, {"x-user", "b"}}
	for name, c := range map[string]struct {
		match mesh.Match
		req   View
		want  bool
	}{
		"nothing":                               {mesh.Match{}, View{}, true},
		"path exact":                            {mesh.Match{Path: exact("/a")}, View{URLPath: "/a"}, true},
		"path exact, longer":                    {mesh.Match{Path: exact("/a")}, View{URLPath: "/a/"}, false},
		"path exact, other case":                {mesh.Match{Path: exact("/a")}, View{URLPath: "/A"}, false},
		"path exact, case ignored":              {mesh.Match{Path: exact("/Ab"), IgnorePathCase: true}, View{URLPath: "/aB"}, true},
		"path exact, longer, case":              {mesh.Match{Path: exact("/Ab"), IgnorePathCase: true}, View{URLPath: "/abc"}, false},
		"path prefix is of the string":          {mesh.Match{Path: prefix("/api")}, View{URLPath: "/apifoo"}, true},
		"path prefix, case ignored":             {mesh.Match{Path: prefix("/API"), IgnorePathCase: true}, View{URLPath: "/Api/x"}, true},
		"only ASCII is folded":                  {mesh.Match{Path: exact("/\u212a"), IgnorePathCase: true}, View{URLPath: "/k"}, false},
		"path prefix by elements, itself":       {mesh.Match{Path: pathPrefix("/foo")}, View{URLPath: "/foo"}, true},
		"path prefix by elements, below":        {mesh.Match{Path: pathPrefix("/foo")}, View{URLPath: "/foo/bar"}, true},
		"path prefix by elements, longer":       {mesh.Match{Path: pathPrefix("/foo")}, View{URLPath: "/foobar"}, false},
		"path prefix by elements, root":         {mesh.Match{Path: pathPrefix("/")}, View{URLPath: "/any"}, true},
		"path prefix by elements, no path":      {mesh.Match{Path: pathPrefix("/")}, View{URLPath: "*"}, false},
		"path prefix by elements, case ignored": {mesh.Match{Path: pathPrefix("/Foo"), IgnorePathCase: true}, View{URLPath: "/fOO/bar"}, true},
		"host, with a port":                     {mesh.Match{Hosts: []string{"a.test"}}, View{Authority: "A.test:8080"}, true},
		"host, one of two":                      {mesh.Match{Hosts: []string{"a.test", "b.test"}}, View{Authority: "b.test"}, true},
		"host, a label more":                    {mesh.Match{Hosts: []string{"a.test"}}, View{Authority: "x.a.test"}, false},
		"wildcard, one label":                   {mesh.Match{Hosts: []string{"*.test"}}, View{Authority: "a.test."}, true},
		"wildcard, two labels":                  {mesh.Match{Hosts: []string{"*.test"}}, View{Authority: "b.A.TEST:80"}, true},
		"wildcard, no label":                    {mesh.Match{Hosts: []string{"*.test"}}, View{Authority: "test"}, false},
		"wildcard, an empty label":              {mesh.Match{Hosts: []string{"*.test"}}, View{Authority: ".test"}, false},
		"a match of connections":                {mesh.Match{SNI: []string{"a.test"}}, View{Authority: "a.test"}, false},
		"path regex is of the whole path":       {mesh.Match{Path: regex("/a|/b")}, View{URLPath: "/bc"}, false},
		"path regex, second alternative":        {mesh.Match{Path: regex("/a|/a/b")}, View{URLPath: "/a/b"}, true},
		"regex keeps its case":                  {mesh.Match{Path: regex("/a"), IgnorePathCase: true}, View{URLPath: "/A"}, false},
		"regex with a flag of lines":            {mesh.Match{Path: regex("(?m)/a$")}, View{URLPath: "/a\nb"}, false},
		"method":                                {mesh.Match{Method: exact("GET")}, View{Method: "get"}, false},
		"authority as sent":                     {mesh.Match{Authority: exact("svc")}, View{Authority: "svc:80"}, false},
		"header":                                {mesh.Match{Headers: header("x-user", exact("a"))}, View{Headers: []Header{{"X-USER", "a"}}}, true},
		"header, upper case in the match":       {mesh.Match{Headers: header("X-User", exact("a"))}, View{Headers: []Header{{"x-user", "a"}}}, true},
		"header is not there":                   {mesh.Match{Headers: header("x-user", prefix(""))}, View{}, false},
		"header is there":                       {mesh.Match{Headers: header("x-user", nil)}, View{Headers: []Header{{"x-user", ""}}}, true},
		"header twice, one of them":             {mesh.Match{Headers: header("x-user", exact("a"))}, View{Headers: twice}, false},
		"header twice, joined":                  {mesh.Match{Headers: header("x-user", exact("a,b"))}, View{Headers: twice}, true},
		"header twice, regex":                   {mesh.Match{Headers: header("x-user", regex(".*b"))}, View{Headers: twice}, true},
		"without, missing":                      {mesh.Match{WithoutHeaders: header("x-user", exact("a"))}, View{}, true},
		"without, another value":                {mesh.Match{WithoutHeaders: header("x-user", exact("a"))}, View{Headers: []Header{{"x-user", "b"}}}, true},
		"without, this value":                   {mesh.Match{WithoutHeaders: header("x-user", exact("a"))}, View{Headers: []Header{{"x-user", "a"}}}, false},
		"without, present":                      {mesh.Match{WithoutHeaders: header("x-user", nil)}, View{Headers: []Header{{"x-user", "a"}}}, false},
		"query":                                 {mesh.Match{Query: header("q", exact("1"))}, View{RawQuery: "p=1&q=1"}, true},
		"query, the first of two":               {mesh.Match{Query: header("q", exact("2"))}, View{RawQuery: "q=1&q=2"}, false},
		"query is not decoded":                  {mesh.Match{Query: header("q", exact("a b"))}, View{RawQuery: "q=a%20b"}, false},
		"query without a value":                 {mesh.Match{Query: header("q", exact(""))}, View{RawQuery: "q"}, true},
		"query, name begins alike":              {mesh.Match{Query: header("q", nil)}, View{RawQuery: "qq=1"}, false},
		"port":                                  {mesh.Match{Port: 81}, View{}, false},
		"source labels":                         {mesh.Match{SourceLabels: mesh.Labels{"app": "web"}}, View{}, true},
		"other source":                          {mesh.Match{SourceLabels: mesh.Labels{"app": "web", "version": "v2"}}, View{}, false},
		"all must hold":                         {mesh.Match{Method: exact("GET"), Path: exact("/a")}, View{Method: "GET", URLPath: "/b"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := CompileMatch(&c.match, mesh.Labels{"app": "web"})
			require.NoError(t, err)
			require.Equal(t, c.want, m.Match(&c.req, 80))
		})
	}
	var none *Matcher
	require.True(t, none.Match(&View{}, 80), "no match is every match")
}

func TestCompileMatchTellsAllMistakes(t *testing.T) {
	t.Parallel()
	a := "a"
	_, err := CompileMatch(&mesh.Match{
		Path:           regex("a)(b"),
		Method:         &mesh.StringMatch{},
		Authority:      &mesh.StringMatch{Exact: &a, Prefix: &a},
		Hosts:          []string{"a.test", "A.test"},
		SNI:            []string{"*"},
		Headers:        map[string]mesh.HeaderTest{":authority": {Present: true}, "x-a": {}},
		WithoutHeaders: header("x-b", regex("[")),
		Query:          header("", nil),
	}, nil)
	require.EqualError(t, err, `method: exactly one of exact, prefix and regex is needed
path: regex "a)(b": unexpected ): `+"`a)(b`"+`
authority: exactly one of exact, prefix and regex is needed
hosts: "A.test" is not in lower case
sni: "*" is neither a host nor a wildcard such as *.example.com
headers ":authority": no header can have this name
headers "x-a": it tests neither presence nor a value
withoutHeaders "x-b": regex "[": missing closing ]: `+"`[`"+`
query "": a name is needed`)
}

func TestMatchesThatMeanNothing(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]mesh.Match{
		`path: pathPrefix "/a/" must begin with a slash, and end with none`:         {Path: pathPrefix("/a/")},
		`path: pathPrefix "a" must begin with a slash, and end with none`:           {Path: pathPrefix("a")},
		`method: only a path can be tested by pathPrefix`:                           {Method: pathPrefix("/a")},
		`hosts: ".test" is neither a host nor a wildcard such as *.example.com`:     {Hosts: []string{".test"}},
		`hosts: "*a.test" is neither a host nor a wildcard such as *.example.com`:   {Hosts: []string{"*a.test"}},
		`hosts: "a.test:80" is neither a host nor a wildcard such as *.example.com`: {Hosts: []string{"a.test:80"}},
		`sni: a match of connections cannot test requests`:                          {SNI: []string{"a.test"}, Method: exact("GET")},
		`sourceNamespace: the caller's is not known`:                                {SourceNamespace: "shop"},
	} {
		_, err := CompileMatch(&m, nil)
		require.EqualError(t, err, want)
	}
}

func TestAParsedRequestIsRouted(t *testing.T) {
	t.Parallel()
	raw := "GET /api/./reviews?user=1 HTTP/1.1\r\nHost: reviews\r\nX-Dev-User: a\r\nx-dev-user: b\r\n\r\n"
	var head http1.Head
	_, err := http1.ParseRequest([]byte(raw), &head, http1.DefaultLimits())
	require.NoError(t, err)
	m, err := CompileMatch(&mesh.Match{
		Path: exact("/api/reviews"), Method: exact("GET"), Authority: exact("reviews"),
		Headers: header("x-dev-user", exact("a,b")), Query: header("user", exact("1")),
	}, nil)
	require.NoError(t, err)
	require.True(t, m.Match(&head, 80))
}
