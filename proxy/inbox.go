package proxy

import (
	"meshtest.dev/meshtest/proxy/socket"
)

// inbox is what has arrived on a connection and was not used yet. Without content it holds no memory.
type inbox struct {
	lent *socket.Buffer // what buf lies in, when it is borrowed
	buf  []byte
	r, w int
}

// bytes is the content.
func (b *inbox) bytes() []byte { return b.buf[b.r:b.w] }

// len is the size of the content in bytes.
func (b *inbox) len() int { return b.w - b.r }

// skip takes n bytes out at the front. They stay where they are until the next fill or release.
func (b *inbox) skip(n int) { b.r += n }

// fill waits for more and puts it behind the content, which may move.
func (b *inbox) fill(from *socket.Conn) error {
	if b.buf == nil {
		lent, n, err := from.ReadLent()
		if err != nil {
			return err
		}
		b.lent, b.buf, b.r, b.w = lent, lent[:], 0, n
		return nil
	}
	b.makeRoom()
	n, err := from.Read(b.buf[b.w:])
	b.w += n
	return err
}

// ask writes a question, and fills the empty inbox with what comes. The two errors are those of writing and of reading.
func (b *inbox) ask(to *socket.Conn, question []byte) (wrote, err error) {
	lent, n, wrote, err := to.Ask(question)
	if err == nil {
		b.lent, b.buf, b.r, b.w = lent, lent[:], 0, n
	}
	return wrote, err
}

// makeRoom makes sure that at least one byte can be read.
func (b *inbox) makeRoom() {
	switch {
	case b.r == b.w:
		b.r, b.w = 0, 0
	case b.w < len(b.buf):
	case b.r > 0:
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	default:
		bigger := make([]byte, 2*len(b.buf))
		copy(bigger, b.buf)
		b.giveBack()
		b.buf = bigger
	}
}

// release forgets the content.
func (b *inbox) release() {
	b.giveBack()
	*b = inbox{}
}

// rest releases the inbox if nothing is left in it.
func (b *inbox) rest() {
	if b.r == b.w {
		b.release()
	}
}

func (b *inbox) giveBack() {
	if b.lent != nil {
		socket.Return(b.lent)
		b.lent = nil
	}
}
