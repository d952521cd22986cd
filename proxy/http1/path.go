package http1

// PathNormalization says how much of the spelling of a path is taken away before anybody looks at it. The levels are those of Istio's
// MeshConfig.pathNormalization.
type PathNormalization uint8

// The levels. At every level a path with a bad percent escape, with %00 or with a backslash is refused.
const (
	// PathNone leaves the path as it is.
	PathNone PathNormalization = iota
	// PathBase decodes percent-encoded unreserved characters, writes other escapes in upper case, and removes dot segments (RFC 3986, 6.2.2). %2F and %5C stay
	// escapes: they are data within a segment. (Istio's BASE turns a backslash into a slash; here it is refused.)
	PathBase
	// PathMergeSlashes does that, and then makes one slash of several.
	PathMergeSlashes
	// PathDecodeAndMergeSlashes decodes %2F and %5C first, both to a slash, and then does the same as PathMergeSlashes.
	PathDecodeAndMergeSlashes
)
