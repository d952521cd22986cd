package http2

import (
	"io"

	"meshtest.dev/meshtest/proxy/socket"
)

// input is what has arrived on a connection and was not used yet. While it waits for more it holds no memory, if the connection is a socket.
type input struct {
	from Transport
	lent *socket.Buffer
	b    []byte

	begun bool   // something has to be whole soon, and a part of it was used
	told  bool   // so
	late  func() // is told, once, before the rest of it is waited for
}

// rest begins to watch what is read next, or ends that; it reports whether late was told.
func (in *input) rest() (told bool) {
	told = in.told
	in.begun, in.told = false, false
	return told
}

// lender is a connection that waits without a buffer.
type lender interface {
	ReadLent() (*socket.Buffer, int, error)
}

// Read is what the Framer reads with.
func (in *input) Read(p []byte) (int, error) {
	if len(in.b) == 0 {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.b)
	in.b = in.b[n:]
	in.begun = true
	return n, nil
}

// fill waits for more when all has been used.
func (in *input) fill() error {
	in.release()
	if in.begun && !in.told {
		in.told = true
		in.late()
	}
	if l, ok := in.from.(lender); ok {
		b, n, err := l.ReadLent()
		if err != nil {
			return err
		}
		in.lent, in.b = b, b[:n]
		return nil
	}
	b := socket.Borrow()
	n, err := in.from.Read(b[:])
	if n == 0 {
		socket.Return(b)
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	in.lent, in.b = b, b[:n]
	return nil
}

func (in *input) release() {
	if in.lent != nil {
		socket.Return(in.lent)
	}
	in.lent, in.b = nil, nil
}

// drop skips n bytes.
func (in *input) drop(n int) error {
	for n > 0 {
		if len(in.b) == 0 {
			if err := in.fill(); err != nil {
				return err
			}
		}
		k := min(n, len(in.b))
		in.b = in.b[k:]
		n -= k
	}
	return nil
}

// pipe is payload that has arrived on a stream and was not read yet: at most what the stream's window allows, in buffers that are borrowed as long as there is something in them.
type pipe struct {
	bufs []*socket.Buffer
	r, w int // where reading goes on in the first buffer, and writing in the last one
	n    int // bytes
}

func (p *pipe) len() int { return p.n }

// write takes a copy of all of b.
func (p *pipe) write(b []byte) {
	for len(b) > 0 {
		if len(p.bufs) == 0 || p.w == socket.BufferSize {
			p.bufs = append(p.bufs, socket.Borrow())
			p.w = 0
		}
		k := copy(p.bufs[len(p.bufs)-1][p.w:], b)
		b = b[k:]
		p.w += k
		p.n += k
	}
}

// read fills b as far as there is something.
func (p *pipe) read(b []byte) (n int) {
	for len(b) > 0 && p.n > 0 {
		end := socket.BufferSize
		if len(p.bufs) == 1 {
			end = p.w
		}
		k := copy(b, p.bufs[0][p.r:end])
		b = b[k:]
		n += k
		p.n -= k
		if p.r += k; p.r == end {
			p.next()
		}
	}
	return n
}

// next gives the first buffer back.
func (p *pipe) next() {
	socket.Return(p.bufs[0])
	last := len(p.bufs) - 1
	copy(p.bufs, p.bufs[1:])
	p.bufs[last] = nil
	p.bufs = p.bufs[:last]
	if p.r = 0; last == 0 {
		p.w = 0
	}
}

// reset forgets everything, and says how much that was.
func (p *pipe) reset() (n int) {
	n = p.n
	for len(p.bufs) > 0 {
		p.next()
	}
	p.n = 0
	return n
}
