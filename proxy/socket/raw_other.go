//go:build !linux

package socket

const rawSupported = false

func (c *Conn) tryRead(uintptr) bool  { panic("socket: not reached without raw support") }
func (c *Conn) tryEach(uintptr) bool  { panic("socket: not reached without raw support") }
func (c *Conn) tryWrite(uintptr) bool { panic("socket: not reached without raw support") }
func (c *Conn) tryLook(uintptr)       {}
func (c *Conn) tryCount(uintptr)      {}
