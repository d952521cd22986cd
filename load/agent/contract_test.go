package agent

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshtest.dev/meshtest/load"
	"meshtest.dev/meshtest/load/loadtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a token of nobody's"

// stand starts an agent without a network, until the test ends or stop is called. Its streams connect by dial.
func stand(t *testing.T, dial load.DialFunc) (way func(context.Context) (net.Conn, error), stop func()) {
	t.Helper()
	l := loadtest.NewListener()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	server := &Server{Token: secret, dial: dial}
	go func() { served <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	return l.Dial, cancel
}

func TestClientContract(t *testing.T) {
	t.Parallel()
	loadtest.Runs(t, batchEvery, func(t *testing.T, dial load.DialFunc) loadtest.Runner {
		way, _ := stand(t, dial)
		return Client{Dial: way, Token: secret}.Run
	})
}
