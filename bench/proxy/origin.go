package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
)

// serveOrigin is the origin where nginx is not installed.
func serveOrigin(dir string, listeners []listener) (stop func(), err error) {
	var servers []*http.Server
	var all sync.WaitGroup
	stop = func() {
		for _, s := range servers {
			_ = s.Close() // nobody is asking any more
		}
		all.Wait()
	}
	for _, at := range listeners {
		l, err := net.Listen("tcp", at.Address)
		if err != nil {
			stop()
			return nil, fmt.Errorf("serving the origin: %w", err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", strconv.Itoa(bodySize))
			w.Header().Set("X-Version", at.Version)
			_, _ = io.WriteString(w, originBody)
		})}
		servers = append(servers, s)
		all.Go(func() {
			if at.TLS {
				_ = s.ServeTLS(l, filepath.Join(dir, "origin.pem"), filepath.Join(dir, "origin.key")) // it ends when it is closed
			} else {
				_ = s.Serve(l)
			}
		})
	}
	return stop, nil
}
