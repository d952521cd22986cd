package zipkin

import (
	"unicode/utf8"
	"unsafe"
)

// batch is spans that wait, with memory of their own that is used again. Its texts live in one piece of memory; when that grows, older spans still hold the piece before.
type batch struct {
	spans       []Span
	text        []byte
	annotations []Annotation
}

// add copies a span.
func (b *batch) add(s *Span) {
	b.spans = append(b.spans, *s)
	kept := &b.spans[len(b.spans)-1]
	kept.texts(func(text *string) { *text = b.keep(*text) })
	from := len(b.annotations)
	for _, a := range s.Annotations[:min(len(s.Annotations), maxAnnotations)] {
		b.annotations = append(b.annotations, Annotation{a.At, b.keep(a.Value)})
	}
	kept.Annotations = b.annotations[from:len(b.annotations):len(b.annotations)]
}

// keep copies a text, as far as it may be long.
func (b *batch) keep(text string) string {
	if text == "" {
		return ""
	}
	from := len(b.text)
	if len(text) > maxText {
		end := maxText
		for !utf8.RuneStart(text[end]) && end > maxText-utf8.UTFMax {
			end--
		}
		text = text[:end]
	}
	b.text = append(b.text, text...)
	return unsafe.String(&b.text[from], len(b.text)-from)
}

// reset forgets the spans, and keeps their memory.
func (b *batch) reset() {
	clear(b.spans)
	clear(b.annotations)
	b.spans, b.text, b.annotations = b.spans[:0], b.text[:0], b.annotations[:0]
}
