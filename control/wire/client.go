package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Bounds of the wait before a reconnect, which is uniform between 0 and a ceiling that doubles ("full jitter"), so that peers of a control plane that comes
// back do not come all at once.
const (
	backoffBase = 50 * time.Millisecond
	backoffMax  = 5 * time.Second
)

// backoff is the wait before the given retry, counted from 0; chance is in [0, 1).
func backoff(retry int, chance float64) time.Duration {
	ceiling := backoffMax
	if retry < 16 {
		ceiling = min(ceiling, backoffBase<<retry)
	}
	return time.Duration(chance * float64(ceiling))
}

// Keepalives. A connection may lead through an API server and a node's agent, which forget what is silent and, when they are busy, are late by seconds: so something is said every ten
// seconds (gRPC's clients do not go below), also when no call is in progress, and a peer has as long to answer. A peer that is gone is mostly noticed at once, because
// the connection ends; this is for those that hang.
const (
	pingInterval = 10 * time.Second
	pingTimeout  = 10 * time.Second
)

// connect prepares a connection on which every call carries the token and the version. It is opened by the first call.
func connect(dial Dial, token string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///meshtest",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // what has to be secret, dial encrypts
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(introduce(ctx, token), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(introduce(ctx, token), desc, cc, method, opts...)
		}),
	)
}

func introduce(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, metadataToken, "Bearer "+token, metadataVersion, Version)
}

// dialogue carries out one connection's worth of a conversation; worked reports whether the peer has answered at all.
type dialogue func(ctx context.Context, conn *grpc.ClientConn) (worked bool, err error)

// converse repeats a dialogue on new connections until ctx ends (it returns nil then), the dialogue returns nil, or an error says that trying again is of no use. Each
// broken connection is told to lost.
func converse(ctx context.Context, dial Dial, token TokenSource, lost func(error), s dialogue) error {
	for retry := 0; ; retry++ {
		worked, err := once(ctx, dial, token, s)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil || hopeless(err):
			return err
		case worked:
			retry = 0
		}
		lost(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff(retry, rand.Float64())):
		}
	}
}

func once(ctx context.Context, dial Dial, source TokenSource, s dialogue) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	token, err := source()
	if err != nil {
		return false, fmt.Errorf("reading the token: %w", err)
	}
	conn, err := connect(dial, token)
	if err != nil {
		return false, err
	}
	defer conn.Close() // it has nothing left to tell
	return s(ctx, conn)
}

// greeted waits until the server has admitted the call that opened the stream.
func greeted(stream grpc.ClientStream) bool {
	header, err := stream.Header()
	return err == nil && len(header.Get(metadataVersion)) > 0
}

// finalError marks an error of our own side that ends a conversation.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// hopeless reports whether the same call would meet the same error again.
func hopeless(err error) bool {
	var final finalError
	if errors.As(err, &final) {
		return true
	}
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.InvalidArgument:
		return true
	default:
		return false
	}
}

// plain turns what gRPC says into a plain error: the message only.
func plain(err error) error {
	if s, ok := status.FromError(err); ok && err != nil && !errors.Is(err, io.EOF) {
		return errors.New(s.Message())
	}
	return err
}

// isEnd reports whether a stream ended in good order.
func isEnd(err error) bool { return errors.Is(err, io.EOF) }
