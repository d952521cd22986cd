package http1

import "bytes"

// ParseRequest reads the head of a request from the front of buf. It returns the bytes consumed, 0 and ErrNeedMore, or 0 and a *ProtocolError. Each
// call must be given the same bytes again, and perhaps more behind them; where it had stopped is kept in h, so that no byte is searched twice. Leave
// h alone in between, or Reset it. The buffer must be able to grow to Limits.HeaderBytes and 3 bytes more: an empty line before, and one byte too many.
func ParseRequest(buf []byte, h *Head, lim *Limits) (n int, err error) {
	if h.phase == phaseDone {
		h.Reset()
	}
	h.buf = buf
	return h.result(h.readRequest(lim), Request)
}

// result ends a call of a parser.
func (h *Head) result(f fault, side Side) (int, error) {
	if f == needMore {
		return 0, ErrNeedMore
	}
	h.phase = phaseDone
	if f != ok {
		return 0, side.refuse(f)
	}
	return len(h.buf), nil
}

func (h *Head) readRequest(lim *Limits) fault {
	if h.phase == phaseFirstLine {
		if f := h.skipEmptyLine(); f != ok {
			return f
		}
		if h.line < len(h.buf) && h.buf[h.line] == 0x16 { // the type of a TLS handshake record
			return faultTLS
		}
		end, f := h.nextLine(lim)
		if f == needMore {
			f = h.partialRequestLine(lim)
		}
		if f != ok {
			return f
		}
		if f := h.readRequestLine(end, lim); f != ok {
			return f
		}
		h.beginFields(end + 2)
	}
	if f := h.readFields(lim); f != ok {
		return f
	}
	return h.judgeRequest()
}

func (h *Head) beginFields(at int) {
	h.phase = phaseFields
	h.line, h.seen, h.fieldStart = at, at, at
}

// skipEmptyLine skips one CRLF before a request line (RFC 9112, 2.2).
func (h *Head) skipEmptyLine() fault {
	switch {
	case len(h.buf) == 0:
		return needMore
	case h.start > 0 || h.buf[0] != '\r':
		return ok
	case len(h.buf) == 1:
		return needMore
	case h.buf[1] != '\n':
		return faultBareCR
	}
	h.start, h.line, h.seen = 2, 2, 2
	return ok
}

// partialRequestLine refuses a request line that is too long already, or that is none.
func (h *Head) partialRequestLine(lim *Limits) fault {
	line := h.buf[h.line:]
	switch space := bytes.IndexByte(line[:min(len(line), maxMethod+1)], ' '); {
	case space < 0 && len(line) > maxMethod+1:
		return faultMethodTooLong
	case space >= 0 && len(line)-space-1 > lim.TargetBytes+len(" HTTP/1.1\r"):
		return faultTargetTooLong
	}
	return needMore
}

// readRequestLine reads method SP target SP version.
func (h *Head) readRequestLine(end int, lim *Limits) fault {
	line := h.buf[h.line:end]
	if len(line) == 0 {
		return faultLeadingEmptyLine
	}
	space := 0
	for space < len(line) && charClass[line[space]]&classToken != 0 {
		space++
	}
	switch {
	case space == len(line):
		return faultRequestLineIncomplete
	case space == 0 && isSpace(line[0]), line[space] == '\t':
		return faultRequestLineWhitespace
	case isControl(line[space]):
		return controlFault(line[space])
	case space == 0 || line[space] != ' ':
		return faultMethodInvalid
	case space > maxMethod:
		return faultMethodTooLong
	}
	h.method = h.span(0, space)
	h.Method = methodOf(line[:space])

	rest := line[space+1:]
	second := bytes.IndexByte(rest, ' ')
	if second < 0 {
		return withoutSecondSpace(rest)
	}
	if second == 0 {
		return faultRequestLineWhitespace
	}
	target, version := rest[:second], rest[second+1:]
	if len(target) > lim.TargetBytes {
		return faultTargetTooLong
	}
	h.target = h.span(space+1, space+1+second)
	if bytes.Equal(version, []byte("HTTP/2.0")) && bytes.Equal(line, []byte("PRI * HTTP/2.0")) {
		return faultHTTP2Preface
	}
	var f fault
	if h.Version, f = versionOf(version); f != ok {
		return versionFault(version, f)
	}
	return h.readTarget(lim)
}

// span gives a part of the current line as a part of the buffer.
func (h *Head) span(from, to int) span { return span{uint32(h.line + from), uint32(h.line + to)} }

func withoutSecondSpace(rest []byte) fault {
	if i := badByte(rest); i >= 0 {
		return controlFault(rest[i])
	}
	switch {
	case len(rest) == 0:
		return faultTargetMissing
	case bytes.IndexByte(rest, '\t') >= 0:
		return faultRequestLineWhitespace
	case bytes.HasPrefix(rest, []byte("HTTP/")):
		return faultTargetMissing
	default:
		return faultHTTP09
	}
}

// versionFault tells stray whitespace and controls at the end of a request line from a version that is wrong.
func versionFault(version []byte, f fault) fault {
	if i := badByte(version); i >= 0 {
		return controlFault(version[i])
	}
	if bytes.ContainsAny(version, " \t") {
		return faultRequestLineWhitespace
	}
	return f
}

// versionOf reads HTTP/DIGIT.DIGIT (RFC 9112, 2.3; the name is case-sensitive).
func versionOf(s []byte) (Version, fault) {
	switch {
	case len(s) != len("HTTP/1.1") || string(s[:5]) != "HTTP/" || s[6] != '.' || s[5]-'0' > 9 || s[7]-'0' > 9:
		return 0, faultVersionInvalid
	case s[5] == '1' && s[7] == '1':
		return HTTP11, ok
	case s[5] == '1' && s[7] == '0':
		return HTTP10, ok
	default:
		return 0, faultVersionUnsupported
	}
}

// KnownMethod reports whether the name is that of a method with a number of its own.
func KnownMethod(name []byte) bool { return methodOf(name) != MethodOther }

func methodOf(s []byte) Method {
	switch string(s) {
	case "GET":
		return GET
	case "HEAD":
		return HEAD
	case "POST":
		return POST
	case "PUT":
		return PUT
	case "DELETE":
		return DELETE
	case "CONNECT":
		return CONNECT
	case "OPTIONS":
		return OPTIONS
	case "TRACE":
		return TRACE
	case "PATCH":
		return PATCH
	default:
		return MethodOther
	}
}

// judgeRequest applies the rules that need the whole head.
func (h *Head) judgeRequest() fault {
	if f := h.judgeHost(); f != ok {
		return f
	}
	if f := h.frameRequest(); f != ok {
		return f
	}
	options, f := h.readConnection()
	if f != ok {
		return f
	}
	h.KeepAlive = h.Version == HTTP11 && !options.close
	h.TETrailers = h.Has(TE) && h.acceptsTrailers()
	h.Upgrade = options.upgrade && h.Version == HTTP11 && h.Method == GET && h.Body.Kind == BodyNone && h.offersUpgrade()
	return h.judgeExpect()
}

// judgeExpect handles the one expectation that there is (RFC 9110, 10.1.1). HTTP/1.0 does not know it, and without a body it means nothing: it ends here then.
func (h *Head) judgeExpect() fault {
	switch {
	case !h.Has(Expect):
		return ok
	case h.twice.has(Expect) || !EqualFold(h.Get(Expect), "100-continue"):
		return faultExpectation
	case h.Version == HTTP10 || h.Body.Kind == BodyNone:
		h.drop(Expect)
	default:
		h.Expect100 = true
	}
	return ok
}
