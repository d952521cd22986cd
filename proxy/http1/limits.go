package http1

// Limits bounds what one message may cost, and says how its path is normalised. A Limits is read only while it is in use and may be shared.
type Limits struct {
	HeaderBytes    int               // the head, from the first byte of its first line to its last CRLF; trailers again, on their own; at most 16 MiB
	Headers        int               // lines of the head; trailers again, on their own; at most 65534
	TargetBytes    int               // the request target as sent
	ExtensionBytes int               // chunk extensions of one message together
	Path           PathNormalization // applied to every request path; see NormalizePath
}

// DefaultLimits returns 32 KiB of head, 100 lines, a target of 8 KiB, 16 KiB of chunk extensions and PathBase. HAProxy allows 16 KiB and 101 lines,
// nginx 4 x 8 KiB, Envoy 60 KiB and 100 lines; 16 KiB of extensions is where Go's net/http stops since CVE-2023-39326.
func DefaultLimits() *Limits {
	return &Limits{HeaderBytes: 32 << 10, Headers: 100, TargetBytes: 8 << 10, ExtensionBytes: 16 << 10, Path: PathBase}
}

// maxMethod is the length of a method above which none is registered (the IANA registry's longest has 17 characters).
const maxMethod = 32

// maxConnectionOptions bounds the names in Connection, each of which is searched for among the headers.
const maxConnectionOptions = 16
