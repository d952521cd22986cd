package main

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"meshtest.dev/meshtest/metrics"
)

// serveMetrics shows the sidecars' metrics at the address of the flag, if there is one, until stop is called.
func (f *runFlags) serveMetrics(s streams) (gateway *metrics.Gateway, stop func(), err error) {
	if f.metrics == "" {
		return nil, func() {}, nil
	}
	listener, err := net.Listen("tcp", f.metrics)
	if err != nil {
		return nil, nil, usageError("such as --metrics-listen 127.0.0.1:9464", "--metrics-listen: %v", err)
	}
	gateway = metrics.NewGateway()
	server := &http.Server{Handler: gateway, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // until it is closed
	fmt.Fprintf(s.err, "meshtest: Prometheus finds the sidecars by http_sd_configs: [{url: http://%s/targets}]\n", listener.Addr())
	return gateway, func() {
		_ = server.Close()
		serving.Wait()
	}, nil
}
