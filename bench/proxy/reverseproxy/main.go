// Command reverseproxy is what a Go engineer writes in an afternoon: net/http/httputil's ReverseProxy with a transport that keeps its connections, routing by a header. The data plane is compared with it.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
)

func main() {
	listen := flag.String("listen", "", "HOST:PORT to serve HTTP/1.1 and, by prior knowledge, HTTP/2")
	stable := flag.String("stable", "", "HOST:PORT of the version that everybody gets")
	canary := flag.String("canary", "", "HOST:PORT of the version for x-dev-user: super-secret")
	flag.Parse()
	if err := serve(*listen, *stable, *canary); err != nil {
		fmt.Fprintln(os.Stderr, "reverseproxy:", err)
		os.Exit(1)
	}
}

func serve(listen, stable, canary string) error {
	v1, v2 := &url.URL{Scheme: "http", Host: stable}, &url.URL{Scheme: "http", Host: canary}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			to := v1
			if r.In.Header.Get("X-Dev-User") == "super-secret" {
				to = v2
			}
			r.SetURL(to)
			r.Out.Host = r.In.Host
			r.Out.Header.Set("X-Request-Id", requestID())
			r.Out.Header.Set("X-Forwarded-Proto", "http")
		},
		Transport:  &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true},
		BufferPool: &buffers{},
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Addr: listen, Handler: proxy, Protocols: &protocols}
	return server.ListenAndServe()
}

func requestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// buffers lends what bodies are copied with.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if lent, ok := b.pool.Get().(*[]byte); ok {
		return *lent
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put(&buffer) }
