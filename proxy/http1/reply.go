package http1

// Reply is an answer of the proxy's own.
type Reply struct {
	Status      int
	ContentType string // none when empty
	Body        []byte
	HeadOnly    bool // the request was HEAD: announce the body, do not send it
}

// AppendReply appends a whole response; e may be nil, its additions and Close are used.
func AppendReply(dst []byte, r *Reply, e *Edits) []byte {
	if e == nil {
		e = noEdits
	}
	dst = appendStatusLine(dst, r.Status, StatusText(r.Status))
	if r.ContentType != "" {
		dst = appendField(dst, "Content-Type", r.ContentType)
	}
	mayHaveBody := r.Status >= 200 && r.Status != 204 && r.Status != 304
	if mayHaveBody {
		dst = appendLength(dst, int64(len(r.Body)))
	}
	var none Head
	dst = appendEnd(dst, &none, &Edits{added: e.added, buf: e.buf, Close: e.Close}, Response)
	if mayHaveBody && !r.HeadOnly {
		dst = append(dst, r.Body...)
	}
	return dst
}

// StatusText gives the reason phrase of RFC 9110, 15 (and of the later RFCs 6585, 8297 and 7725); "" for a code that has none.
func StatusText(status int) string {
	if status < 0 || status >= len(statusText) {
		return ""
	}
	return statusText[status]
}

var statusText = [...]string{
	100: "Continue", 101: "Switching Protocols", 103: "Early Hints",
	200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information", 204: "No Content", 205: "Reset Content", 206: "Partial Content",
	300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified", 307: "Temporary Redirect",
	308: "Permanent Redirect",
	400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
	407: "Proxy Authentication Required", 408: "Request Timeout", 409: "Conflict", 410: "Gone", 411: "Length Required", 412: "Precondition Failed",
	413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type", 416: "Range Not Satisfiable", 417: "Expectation Failed",
	421: "Misdirected Request", 422: "Unprocessable Content", 425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required",
	429: "Too Many Requests", 431: "Request Header Fields Too Large", 451: "Unavailable For Legal Reasons",
	500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
	505: "HTTP Version Not Supported", 511: "Network Authentication Required",
}
