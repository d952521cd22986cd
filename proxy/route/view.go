package route

// View is a Request made of parts, for requests that do not come from the wire.
type View struct {
	Method    string
	URLPath   string // normalised, without the query
	RawQuery  string // without the question mark
	Authority string
	Headers   []Header // in order
}

// Header is one header line.
type Header struct{ Name, Value string }

var _ Request = (*View)(nil)

// MethodName is the method.
func (v *View) MethodName() []byte { return []byte(v.Method) }

// Path is the path.
func (v *View) Path() []byte { return []byte(v.URLPath) }

// Query is the query.
func (v *View) Query() []byte { return []byte(v.RawQuery) }

// Host is the authority.
func (v *View) Host() []byte { return []byte(v.Authority) }

// Find finds the first header with that name in any case.
func (v *View) Find(name string) int { return v.find(0, name) }

// Next finds the next header with the name of header i.
func (v *View) Next(i int) int { return v.find(i+1, v.Headers[i].Name) }

// Value is the value of header i.
func (v *View) Value(i int) []byte { return []byte(v.Headers[i].Value) }

func (v *View) find(from int, name string) int {
	for i := from; i < len(v.Headers); i++ {
		if lowerASCII(v.Headers[i].Name) == lowerASCII(name) {
			return i
		}
	}
	return -1
}
