package http1

import "bytes"

// readFields reads header lines from h.line on, and the empty line that ends them.
func (h *Head) readFields(lim *Limits) fault {
	for {
		end, f := h.nextLine(lim)
		if f != ok {
			return f
		}
		if end == h.line {
			h.fieldEnd = end
			h.buf = h.buf[:end+2]
			return ok
		}
		if len(h.fields) >= lim.Headers {
			return faultTooManyHeaders
		}
		if f := h.readField(end); f != ok {
			return f
		}
		h.line, h.seen = end+2, end+2
	}
}

// nextLine finds the CR of the CRLF that ends the line at h.line. No byte is searched for it twice: h.seen remembers how far it came.
func (h *Head) nextLine(lim *Limits) (end int, f fault) {
	i := bytes.IndexByte(h.buf[h.seen:], '\n')
	if i < 0 {
		return 0, h.partialLine(lim)
	}
	end = h.seen + i - 1
	switch {
	case end+2-h.start > lim.HeaderBytes:
		return 0, faultHeaderTooLarge
	case end < h.line || h.buf[end] != '\r':
		return 0, faultBareLF
	default:
		return end, ok
	}
}

// partialLine judges what there is of a line whose end has not arrived: a peer that never ends its line is refused as soon as that is sure.
func (h *Head) partialLine(lim *Limits) fault {
	if len(h.buf)-h.start > lim.HeaderBytes {
		return faultHeaderTooLarge
	}
	if i := bytes.IndexByte(h.buf[h.seen:], '\r'); i >= 0 {
		if h.seen += i; h.seen != len(h.buf)-1 {
			return faultBareCR
		}
		return needMore // the CR is looked at again, with what follows it
	}
	h.seen = len(h.buf)
	return needMore
}

// readField indexes the header line from h.line to end.
func (h *Head) readField(end int) fault {
	line := h.buf[h.line:end]
	colon, underscore := 0, uint8(0)
	for ; colon < len(line); colon++ {
		class := charClass[line[colon]]
		if class&classToken == 0 {
			break
		}
		underscore |= class & classUnderscore
	}
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		return h.nameFault(line, colon)
	}
	name := line[:colon]
	id := recognise(name)
	if underscore != 0 && masquerades(name) {
		return faultHeaderUnderscore
	}
	from, to := colon+1, len(line)
	for from < to && isSpace(line[from]) {
		from++
	}
	for from < to && isSpace(line[to-1]) {
		to--
	}
	if i := badValue(line[from:to]); i >= 0 {
		return controlFault(line[from+i])
	}
	tidy := to == len(line) && (from == colon+1 || from == colon+2 && line[colon+1] == ' ')
	h.add(Field{
		NameOff: uint32(h.line), NameLen: uint32(colon),
		ValOff: uint32(h.line + from), ValLen: uint32(to - from),
		ID: id, flags: flagsOf(id, tidy),
	})
	return ok
}

func flagsOf(id Known, tidy bool) (f fieldFlags) {
	if hopByHop.has(id) {
		f |= fieldDropped
	}
	if !tidy {
		f |= fieldUntidy
	}
	return f
}

// add appends a field to the index.
func (h *Head) add(f Field) {
	h.fields = append(h.fields, f)
	switch {
	case f.ID == Unknown:
	case h.first[f.ID] == 0:
		h.first[f.ID] = uint16(len(h.fields))
		h.present.add(f.ID)
	default:
		h.twice.add(f.ID)
	}
}

// drop marks the first line of a known header as one that ends here.
func (h *Head) drop(id Known) {
	if i := h.Index(id); i >= 0 {
		h.fields[i].flags |= fieldDropped
	}
}

// nameFault says what is wrong with a line whose name ends at i, but not with a colon or not behind at least one character.
func (h *Head) nameFault(line []byte, i int) fault {
	switch {
	case isSpace(line[0]) && len(h.fields) == 0:
		return faultLeadingWhitespace
	case isSpace(line[0]):
		return faultObsFold
	case line[0] == ':':
		return faultHeaderNameEmpty
	case i == len(line):
		return faultHeaderWithoutColon
	case isSpace(line[i]) && bytes.HasPrefix(trim(line[i:]), []byte(":")):
		return faultSpaceBeforeColon
	case isControl(line[i]):
		return controlFault(line[i])
	case bytes.IndexByte(line, ':') < 0:
		return faultHeaderWithoutColon
	default:
		return faultHeaderNameInvalid
	}
}

func isControl(c byte) bool { return c < 0x20 && c != '\t' || c == 0x7f }

func controlFault(c byte) fault {
	if c == '\r' {
		return faultBareCR
	}
	return faultControlCharacter
}

// masquerades reports whether a name with underscores becomes a known one when they are read as dashes, as CGI and its heirs do.
func masquerades(name []byte) bool {
	var dashed [64]byte
	if len(name) > len(dashed) {
		return false
	}
	for i, c := range name {
		if c == '_' {
			c = '-'
		}
		dashed[i] = c
	}
	return recognise(dashed[:len(name)]) != Unknown
}
