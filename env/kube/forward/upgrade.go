package forward

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	protocol "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/websocket"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// upgrade makes a request to the API server a connection of streams: inside a WebSocket, or as it is where an older server, its rules for who may do what, or a proxy on the way
// knows nothing of WebSockets. raw is the connection below, if it can be had.
func upgrade(ctx context.Context, config *rest.Config, client kubernetes.Interface, to pod) (conn httpstream.Connection, raw io.Closer, err error) {
	at := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(to.namespace).Name(to.name).SubResource("portforward").URL()
	conn, raw, err = tunnel(ctx, config, at)
	if httpstream.IsUpgradeFailure(err) && !apierrors.IsNotFound(unwrapUpgrade(err)) || httpstream.IsHTTPSProxyError(err) {
		conn, raw, err = plain(ctx, config, at)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, nil, fmt.Errorf("asking the API server: %w", unwrapUpgrade(err))
	}
	return conn, raw, nil
}

// unwrapUpgrade is what the API server said when it refused.
func unwrapUpgrade(err error) error {
	var refused *httpstream.UpgradeFailureError
	if errors.As(err, &refused) {
		return refused.Cause
	}
	return err
}

func tunnel(ctx context.Context, config *rest.Config, at *url.URL) (httpstream.Connection, io.Closer, error) {
	transport, holder, err := websocket.RoundTripperFor(config)
	if err != nil {
		return nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	socket, err := websocket.Negotiate(transport, holder, request, protocol.WebsocketsSPDYTunnelingPrefix+protocol.PortForwardV1Name)
	if err != nil {
		return nil, nil, err
	}
	raw := portforward.NewTunnelingConnectionWithLogger(klog.Background(), socket)
	conn, err := spdy.NewClientConnectionWithPings(raw, portforward.PingPeriod)
	return conn, raw, err
}

// plain speaks SPDY right after the upgrade. client-go can do that too, but keeps the connection below to itself.
func plain(ctx context.Context, config *rest.Config, at *url.URL) (httpstream.Connection, io.Closer, error) {
	secure, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, nil, err
	}
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	transport, err := rest.HTTPWrappersForConfig(config, &http.Transport{TLSClientConfig: secure, Proxy: proxy, DisableKeepAlives: true})
	if err != nil {
		return nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	request.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	request.Header.Set(httpstream.HeaderProtocolVersion, protocol.PortForwardV1Name)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, nil, err
	}
	stream, upgraded := response.Body.(io.ReadWriteCloser)
	if response.StatusCode != http.StatusSwitchingProtocols || !upgraded {
		defer response.Body.Close()
		return nil, nil, refused(response)
	}
	raw := upgradedConn{ReadWriteCloser: stream}
	conn, err := spdy.NewClientConnectionWithPings(raw, portforward.PingPeriod)
	return conn, raw, err
}

// refused is what the API server said instead of upgrading.
func refused(response *http.Response) error {
	said, _ := io.ReadAll(io.LimitReader(response.Body, maxText))
	var status metav1.Status
	if json.Unmarshal(said, &status) == nil && status.Message != "" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(said))
}

// upgradedConn is what is left of a request after its upgrade. SPDY asks for a net.Conn, and uses of it what a stream has.
type upgradedConn struct {
	io.ReadWriteCloser
	net.Conn
}

func (u upgradedConn) Read(p []byte) (int, error)  { return u.ReadWriteCloser.Read(p) }
func (u upgradedConn) Write(p []byte) (int, error) { return u.ReadWriteCloser.Write(p) }
func (u upgradedConn) Close() error                { return u.ReadWriteCloser.Close() }
