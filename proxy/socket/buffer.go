package socket

import "sync"

// BufferSize is what one read takes at most, in bytes: it holds the head of nearly every message and a body of some KiB with it.
const BufferSize = 16 << 10

// Buffer is BufferSize bytes that are lent while there is something to hold.
type Buffer [BufferSize]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// Borrow lends a buffer of arbitrary content.
func Borrow() *Buffer { return buffers.Get().(*Buffer) }

// Return takes a buffer back. Whoever returned it must not use it any more.
func Return(b *Buffer) { buffers.Put(b) }
