package http1

// Exchange is what a response has to be read against: the request that it answers.
type Exchange struct {
	Method  Method
	Upgrade bool // the request was sent with its offer to upgrade
}

// ExchangeOf gives the exchange of a request that is forwarded without its offer to upgrade; set Upgrade when Edits.KeepUpgrade was.
func ExchangeOf(req *Head) Exchange { return Exchange{Method: req.Method} }

// ParseResponse does for a response what ParseRequest does for a request. A 1xx (other than 101) is a head of its own without a body: parse again behind it.
func ParseResponse(buf []byte, h *Head, req Exchange, lim *Limits) (n int, err error) {
	if h.phase == phaseDone {
		h.Reset()
	}
	h.buf = buf
	return h.result(h.readResponse(req, lim), Response)
}

func (h *Head) readResponse(req Exchange, lim *Limits) fault {
	if h.phase == phaseFirstLine {
		end, f := h.nextLine(lim)
		if f != ok {
			return f
		}
		if f := h.readStatusLine(end); f != ok {
			return f
		}
		h.beginFields(end + 2)
	}
	if f := h.readFields(lim); f != ok {
		return f
	}
	return h.judgeResponse(req)
}

// readStatusLine reads version SP 3DIGIT SP [reason] (RFC 9112, 4); the last space may be missing when there is no reason.
func (h *Head) readStatusLine(end int) (f fault) {
	line := h.buf[h.line:end]
	const version, code = len("HTTP/1.1"), len("HTTP/1.1 200")
	if i := badValue(line); i >= 0 {
		return controlFault(line[i])
	}
	if len(line) < code || line[version] != ' ' || len(line) > code && line[code] != ' ' {
		return faultStatusLineInvalid
	}
	if h.Version, f = versionOf(line[:version]); f != ok {
		return f
	}
	for _, c := range line[version+1 : code] {
		if c-'0' > 9 {
			return faultStatusLineInvalid
		}
		h.Status = h.Status*10 + int(c-'0')
	}
	if h.Status < 100 || h.Status > 599 { // RFC 9110, 15
		return faultStatusInvalid
	}
	h.reason = h.span(min(code+1, len(line)), len(line))
	return ok
}

// judgeResponse applies the rules that need the whole head.
func (h *Head) judgeResponse(req Exchange) fault {
	if f := h.frameResponse(req); f != ok {
		return f
	}
	options, f := h.readConnection()
	if f != ok {
		return f
	}
	if h.Status == 101 {
		if !req.Upgrade || !options.upgrade || !h.offersUpgrade() {
			return faultUnsolicitedUpgrade
		}
		h.Upgrade = true
	}
	persistent := h.Version == HTTP11 || options.keepAlive
	h.KeepAlive = persistent && !options.close && h.Body.Kind != BodyUntilClose && h.Body.Kind != BodyTunnel
	return ok
}
