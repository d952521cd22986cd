package load_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"meshtest.dev/meshtest/load"
)

// A server of grpc-go takes the calls for calls, with their messages and metadata; each of its statuses counts as the HTTP status that stands for it.
func TestCallsOfGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	seen := map[string]int{}
	var next codes.Code
	srv := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		_, bounded := ctx.Deadline()
		mu.Lock()
		defer mu.Unlock()
		seen[md.Get("x-request-id")[0]]++
		require.Equal(t, "shop", req.(*grpc_health_v1.HealthCheckRequest).GetService())
		require.False(t, bounded)
		if next++; next > 17 {
			return handler(ctx, req)
		}
		return &grpc_health_v1.HealthCheckResponse{}, status.Error(next-1, "as asked")
	}))
	checks := health.NewServer()
	checks.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(srv, checks)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		srv.Stop()
		require.NoError(t, <-served)
	}()

	message, err := proto.Marshal(&grpc_health_v1.HealthCheckRequest{Service: "shop"})
	require.NoError(t, err)
	s := load.Stream{
		Name: "users", GRPC: true, URL: "http://" + l.Addr().String() + "/grpc.health.v1.Health/Check", Body: message,
		Pacer: constant(t, 500), Duration: 40 * time.Millisecond, Timeout: time.Minute,
	}
	got, err := load.Run(t.Context(), s, nil)
	require.NoError(t, err)
	require.EqualValues(t, 20, got.Sent)
	require.Empty(t, got.Errors)
	require.Equal(t, map[int]uint64{200: 4, 499: 1, 500: 3, 400: 3, 504: 1, 404: 1, 409: 2, 403: 1, 429: 1, 501: 1, 503: 1, 401: 1}, got.Statuses)
	require.Len(t, seen, 20)
	require.EqualValues(t, 4, got.OK.Count())

	s.Method = http.MethodGet
	require.ErrorContains(t, s.Validate(), "want POST")
}
