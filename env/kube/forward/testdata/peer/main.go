// Command peer is an application for the tests of package forward: 7001 sends back what it gets, 7002 sends without end, 7003 takes everything and then says how much it was.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
)

func main() {
	serve("127.0.0.1:7001", func(c net.Conn) { _, _ = io.Copy(c, c) })
	serve("127.0.0.1:7002", func(c net.Conn) {
		for block := make([]byte, 64<<10); ; {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	serve("127.0.0.1:7003", func(c net.Conn) {
		n, _ := io.Copy(io.Discard, c)
		fmt.Fprintln(c, n)
	})
	select {}
}

func serve(address string, each func(net.Conn)) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go func() {
				defer c.Close()
				each(c)
			}()
		}
	}()
}
