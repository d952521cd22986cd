// Command standin is everything in the pods of this folder's test on a real cluster: an application, and in the sidecar's place a program that says what reached it. Capturing it leaves to the real sidecar's
// program, which lies beside it.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"meshtest.dev/meshtest/proxy/capture"
)

func main() {
	switch os.Args[1] {
	case "capture":
		log.Fatal(syscall.Exec("/meshtest-sidecar", append([]string{"/meshtest-sidecar"}, os.Args[1:]...), os.Environ()))
	case "pod":
		sidecar()
	case "app":
		application()
	case "call": // an init container of the application's own
		text, err := get(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(text)
	}
}

type originalKey struct{}

// sidecar answers what is captured by where it was going, and tells who it is.
func sidecar() {
	for _, l := range []struct{ address, name string }{{":15001", "outbound"}, {":15006", "inbound"}} {
		server := &http.Server{
			Addr: l.address,
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				to, err := capture.OriginalDst(c)
				return context.WithValue(ctx, originalKey{}, fmt.Sprint(to, err))
			},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "captured %s to %v\n", l.name, r.Context().Value(originalKey{}))
			}),
		}
		go func() { log.Fatal(server.ListenAndServe()) }()
	}
	mux := http.NewServeMux()
	for _, file := range []string{"token", "ca.crt"} {
		mux.HandleFunc("/"+file, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, "/var/run/secrets/meshtest.dev/"+file)
		})
	}
	mux.HandleFunc("/identity", func(w http.ResponseWriter, r *http.Request) {
		status, _ := os.ReadFile("/proc/self/status")
		fmt.Fprintf(w, "%s.%s %s %s\n%s", os.Getenv("POD_NAME"), os.Getenv("POD_NAMESPACE"), os.Getenv("MESHTEST_CONTROL"), os.Getenv("MESHTEST_RUN"), status)
	})
	go func() { log.Fatal(http.ListenAndServe(":15020", mux)) }()
	ready := http.NewServeMux()
	ready.HandleFunc("GET /healthz/ready", func(http.ResponseWriter, *http.Request) {})
	log.Fatal(http.ListenAndServe(":15021", ready))
}

// application answers on two ports, and calls whom it is told to.
func application() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "application") })
	mux.HandleFunc("/call", func(w http.ResponseWriter, r *http.Request) {
		text, err := get(r.URL.Query().Get("to"))
		fmt.Fprint(w, text)
		if err != nil {
			fmt.Fprintln(w, err)
		}
	})
	go func() { log.Fatal(http.ListenAndServe(":9090", mux)) }()
	log.Fatal(http.ListenAndServe(":8080", mux))
}

func get(address string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get("http://" + address + "/")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	var b strings.Builder
	_, err = io.Copy(&b, r.Body)
	return b.String(), err
}
