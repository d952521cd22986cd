package wire

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Metadata of every call.
const (
	metadataToken   = "authorization"
	metadataVersion = "meshtest-protocol"
)

// InstanceToken derives the token of one sidecar from the key that the run and its control plane share, so that tokens need no list and a sidecar that is started later
// needs no announcement: HMAC-SHA-256 of the instance, in hexadecimal.
func InstanceToken(key, instance string) string { return derive(key, instance) }

// DirectToken derives what the run shows to the sidecar of an instance in a cluster.
func DirectToken(key, instance string) string { return derive(key, "\x00direct\x00"+instance) }

// EdgeToken derives what the run's load shows to an edge in a cluster.
func EdgeToken(key string) string { return derive(key, "\x00edge") }

// derive is HMAC-SHA-256 of a purpose, in hexadecimal. No instance's name has a zero byte, so no token serves two purposes.
func derive(key, purpose string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(purpose))
	return hex.EncodeToString(mac.Sum(nil))
}

// TokenDigest is the hexadecimal SHA-256 of a token, as in [mesh.Tokens]: enough to recognise the token, of no use to show.
func TokenDigest(token string) string {
	digest := sha256.Sum256([]byte(token))
	return hex.EncodeToString(digest[:])
}

// Verify returns what recognises one token.
func Verify(want string) func(token string) bool {
	return func(token string) bool { return SameToken(token, want) }
}

// VerifyDigest returns what recognises a token by the digest that is current at the time; while that is empty, no token is right.
func VerifyDigest(current func() string) func(token string) bool {
	return func(token string) bool { return SameToken(TokenDigest(token), current()) }
}

// SameToken compares tokens in constant time; an empty token is never right.
func SameToken(got, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// Token is the bearer token of the call that ctx belongs to, or "".
func Token(ctx context.Context) string {
	token, ok := strings.CutPrefix(first(ctx, metadataToken), "Bearer ")
	if !ok {
		return ""
	}
	return token
}

func first(ctx context.Context, key string) string {
	if values := metadata.ValueFromIncomingContext(ctx, key); len(values) == 1 {
		return values[0]
	}
	return ""
}

// NewServer returns a gRPC server that speaks this protocol: it refuses other majors, asks allow for every call (with the full method name; nil admits
// the call), greets streams at once, and notices within twenty seconds a peer that hangs.
func NewServer(allow func(ctx context.Context, method string) error) *grpc.Server {
	admit := func(ctx context.Context, method string) error {
		if err := checkVersion(first(ctx, metadataVersion)); err != nil {
			return status.Error(codes.FailedPrecondition, err.Error())
		}
		if err := allow(ctx, method); err != nil {
			return status.Error(codes.Unauthenticated, err.Error())
		}
		return nil
	}
	return grpc.NewServer(
		grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingInterval / 2, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := admit(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := admit(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			if err := stream.SendHeader(metadata.Pairs(metadataVersion, Version)); err != nil {
				return err
			}
			return handle(srv, stream)
		}),
	)
}

// Serve serves until ctx ends, and returns when every call has returned; calls in progress are cancelled.
func Serve(ctx context.Context, server *grpc.Server, listener net.Listener) error {
	tracked := trackConns(listener)
	stopped := make(chan struct{})
	abandon := context.AfterFunc(ctx, func() {
		defer close(stopped)
		tracked.hangUp()
		server.Stop()
	})
	err := server.Serve(tracked)
	tracked.hangUp()
	server.Stop() // waits for the handlers, also when Serve ended by itself
	if !abandon() {
		<-stopped
	}
	if ctx.Err() != nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}
