package interop

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(verdicts{grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)})
	goleak.VerifyTestMain(m)
}

// verdicts is how the cases say that they failed: by a fatal line in the log, behind which the process would end. Here it ends the case.
type verdicts struct{ grpclog.LoggerV2 }

type verdict string

func (verdicts) Fatal(args ...any)                 { panic(verdict(fmt.Sprint(args...))) }
func (verdicts) Fatalln(args ...any)               { panic(verdict(fmt.Sprintln(args...))) }
func (verdicts) Fatalf(format string, args ...any) { panic(verdict(fmt.Sprintf(format, args...))) }

// judged runs a case, and reports what it failed of.
func judged(f func()) (err error) {
	defer func() {
		if v, ok := recover().(verdict); ok {
			err = fmt.Errorf("%s", strings.TrimSpace(string(v)))
		}
	}()
	f()
	return nil
}

// dial makes a client of a chain.
func dial(t *testing.T, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cc.Close()) })
	return cc
}

type client struct {
	*grpc.ClientConn
	grpc_testing.TestServiceClient
}

func unary(f func(context.Context, grpc_testing.TestServiceClient, ...grpc.CallOption)) func(context.Context, client) {
	return func(ctx context.Context, c client) { f(ctx, c.TestServiceClient) }
}

var cases = []struct {
	name string
	run  func(context.Context, client)
}{
	{"empty_unary", unary(interop.DoEmptyUnaryCall)},
	{"large_unary", unary(interop.DoLargeUnaryCall)},
	{"client_compressed_unary", func(ctx context.Context, c client) {
		interop.DoLargeUnaryCall(ctx, c.TestServiceClient, grpc.UseCompressor(gzip.Name))
	}},
	{"client_streaming", unary(interop.DoClientStreaming)},
	{"server_streaming", unary(interop.DoServerStreaming)},
	{"ping_pong", unary(interop.DoPingPong)},
	{"empty_stream", unary(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", unary(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", unary(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", unary(interop.DoCancelAfterFirstResponse)},
	{"custom_metadata", unary(interop.DoCustomMetadata)},
	{"status_code_and_message", unary(interop.DoStatusCodeAndMessage)},
	{"special_status_message", unary(interop.DoSpecialStatusMessage)},
	{"unimplemented_method", func(ctx context.Context, c client) { interop.DoUnimplementedMethod(ctx, c.ClientConn) }},
	{"unimplemented_service", func(ctx context.Context, c client) {
		interop.DoUnimplementedService(ctx, grpc_testing.NewUnimplementedServiceClient(c.ClientConn))
	}},
	{"orca_per_rpc", func(ctx context.Context, c client) { interop.DoORCAPerRPCTest(ctx, c.TestServiceClient) }},
	{"orca_oob", func(ctx context.Context, c client) { interop.DoORCAOOBTest(ctx, c.TestServiceClient) }},
}

// reportingLoad is the balancer by which the cases about load see what the server reports.
var reportingLoad = grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`)

// patience bounds a case.
const patience = 40 * time.Second

// TestCases carries grpc-go's cases through two sidecars. A chain is one case's: a flaw of one must not hide behind another's connections.
func TestCases(t *testing.T) {
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newChain(t, newServer(t))
			cc := dial(t, c.address, reportingLoad)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.NoError(t, judged(func() { test.run(ctx, client{cc, grpc_testing.NewTestServiceClient(cc)}) }))
		})
	}
}

// TestSoak calls again and again, over one connection (rpc_soak) and over a new one for each call (channel_soak), with few calls as these things go.
func TestSoak(t *testing.T) {
	for name, fresh := range map[string]bool{"rpc_soak": false, "channel_soak": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChain(t, newServer(t))
			shared := dial(t, c.address)
			config := interop.SoakTestConfig{
				RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: patience, OverallTimeout: patience,
				ServerAddr: c.address, NumWorkers: 4, Iterations: 80,
				ChannelForTest: func() (*grpc.ClientConn, func()) { return shared, func() {} },
			}
			if fresh {
				config.ChannelForTest = func() (*grpc.ClientConn, func()) {
					cc, err := grpc.NewClient(c.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
					require.NoError(t, err)
					return cc, func() { _ = cc.Close() }
				}
			}
			require.NoError(t, judged(func() { interop.DoSoakTest(t.Context(), config) }))
		})
	}
}

// TestVerdicts makes sure that a case can fail: behind a server that has nothing of what it asks for, it does.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	c := newChain(t, "127.0.0.1:1") // where nobody is, nor comes while the test runs
	cc := dial(t, c.address)
	err := judged(func() { interop.DoEmptyUnaryCall(t.Context(), grpc_testing.NewTestServiceClient(cc)) })
	require.ErrorContains(t, err, "code = "+codes.Unavailable.String())
	require.ErrorContains(t, err, "connect")
	_, err = grpc_testing.NewTestServiceClient(cc).EmptyCall(t.Context(), &grpc_testing.Empty{})
	require.Equal(t, codes.Unavailable, status.Code(err))
}
