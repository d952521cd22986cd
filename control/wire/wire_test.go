package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for peer, want := range map[string]string{
		Version: "", "1.99": "",
		"2.0": "the caller speaks protocol 2.0 and this side 1.0: use the same release", "0.9": "protocol 0.9",
		"": "did not say", "1": "did not say", "1.x": "did not say", "-1.0": "did not say", "v1.0": "did not say",
	} {
		err := checkVersion(peer)
		if want == "" {
			require.NoError(t, err, peer)
			continue
		}
		require.ErrorContains(t, err, want, peer)
	}
}

func TestBackoffIsFullJitter(t *testing.T) {
	t.Parallel()
	ceilings := []time.Duration{50, 100, 200, 400, 800, 1600, 3200, 5000, 5000}
	for retry, ceiling := range ceilings {
		require.Zero(t, backoff(retry, 0))
		require.Equal(t, ceiling*time.Millisecond/2, backoff(retry, 0.5))
	}
	require.Equal(t, backoffMax/2, backoff(1_000_000, 0.5))
}

func TestTokens(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, InstanceToken("key", "a"), InstanceToken("key", "b"))
	require.NotEqual(t, InstanceToken("key", "a"), InstanceToken("other", "a"))
	require.True(t, SameToken("t", "t"))
	require.False(t, SameToken("t", "u"))
	require.False(t, SameToken("", ""), "no token is never right")
	tokens := []string{InstanceToken("key", "a"), DirectToken("key", "a"), DirectToken("key", "b"), DirectToken("other", "a"), EdgeToken("key"), EdgeToken("other"), InstanceToken("key", "edge")}
	for i, token := range tokens {
		require.NotContains(t, tokens[:i], token, "no token serves two purposes")
	}
	require.Equal(t, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", TokenDigest("abc")) // FIPS 180-2, B.1
	digest := ""
	verify := VerifyDigest(func() string { return digest })
	require.False(t, verify("t"))
	digest = TokenDigest("t")
	require.True(t, verify("t"))
	require.False(t, verify("u"))
	require.False(t, verify(""))
	require.True(t, Verify("t")("t"))
	require.False(t, Verify("")(""))
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	var s mesh.Service
	require.NoError(t, Decode([]byte(`{"host":"a"}`), &s))
	require.ErrorContains(t, Decode([]byte(`{"host":"a","hots":"b"}`), &s), `"hots"`)
	require.ErrorContains(t, Decode([]byte(`{"subsets":[{"nme":"b"}]}`), &s), `"nme"`)
	require.ErrorContains(t, Decode([]byte(`{"host":1}`), &s), "host")
	require.ErrorContains(t, Decode([]byte(`{} {}`), &s), "follows")
	require.Error(t, Decode(nil, &s))
}

func resourceOf(t testing.TB, value any) *pb.Resource {
	t.Helper()
	r, err := NewResource(Name(value), value)
	require.NoError(t, err)
	return r
}

func TestDecodeUpdate(t *testing.T) {
	t.Parallel()
	service := &mesh.Service{Host: "a.default.svc.cluster.local"}
	good := resourceOf(t, service)
	u, err := DecodeUpdate(&pb.Update{Kind: "service", Generation: Generation(mesh.Generation{Epoch: 1, Counter: 2}), Resources: []*pb.Resource{good}, Removed: []string{"b"}})
	require.NoError(t, err)
	require.Equal(t, mesh.Generation{Epoch: 1, Counter: 2}, u.Generation)
	require.Equal(t, service, u.Set.Services[service.Host])
	require.Equal(t, []string{"b"}, u.Removed)

	for name, test := range map[string]struct {
		update *pb.Update
		want   string
	}{
		"unknown kind":             {&pb.Update{Kind: "policy"}, `"policy"`},
		"unknown kind of resource": {&pb.Update{Kind: "policy", Resources: []*pb.Resource{good}}, `"policy"`},
		"unknown field":            {&pb.Update{Kind: "service", Resources: []*pb.Resource{{Name: "a", Body: []byte(`{"host":"a","mirror":1}`)}}}, `"mirror"`},
		"another kind":             {&pb.Update{Kind: "inbound", Resources: []*pb.Resource{good}}, `"host"`},
		"another name":             {&pb.Update{Kind: "service", Resources: []*pb.Resource{{Name: "x", Body: good.Body}}}, `the body is of "a.default`},
		"null":                     {&pb.Update{Kind: "service", Resources: []*pb.Resource{{Name: "x", Body: []byte("null")}}}, `the body is of ""`},
	} {
		_, err := DecodeUpdate(test.update)
		require.ErrorContains(t, err, test.want, name)
	}
}

// FuzzUpdateDecode: no bytes make decoding panic, and what it accepts means the same after another round.
func FuzzUpdateDecode(f *testing.F) {
	for _, value := range []any{
		&mesh.Service{Host: "a", Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}, Subsets: []mesh.Subset{{Name: "v1"}}},
		&mesh.Endpoints{Host: "a", Port: 80, Endpoints: []mesh.Endpoint{{Address: "127.0.0.1", Port: 1, Labels: mesh.Labels{"version": "v1"}}}},
		&mesh.RouteTable{Host: "a", Port: 80, Routes: []mesh.Route{{Name: "r", Split: []mesh.Destination{{Host: "a", Port: 80, Weight: 1}}, Timeout: time.Second}}},
		&mesh.Inbound{Workload: mesh.Workload{Instance: "a-v1-1"}, Seed: 1 << 63, Listen: []mesh.InboundPort{{Bind: "127.0.0.1:0"}}},
	} {
		for _, kind := range mesh.Kinds() {
			seed, err := proto.Marshal(&pb.Update{Kind: string(kind), Nonce: 1, Generation: &pb.Generation{Epoch: 1, Counter: 1}, Resources: []*pb.Resource{resourceOf(f, value)}, Removed: []string{"b"}})
			require.NoError(f, err)
			f.Add(seed)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var envelope pb.Update
		if proto.Unmarshal(data, &envelope) != nil {
			return
		}
		u, err := DecodeUpdate(&envelope)
		if err != nil {
			return
		}
		again := &pb.Update{Kind: string(u.Kind), Generation: Generation(u.Generation), Removed: u.Removed}
		add := func(value any) { again.Resources = append(again.Resources, resourceOf(t, value)) }
		for _, v := range u.Set.Services {
			add(v)
		}
		for _, v := range u.Set.Endpoints {
			add(v)
		}
		for _, v := range u.Set.Routes {
			add(v)
		}
		for _, v := range u.Set.Inbound {
			add(v)
		}
		back, err := DecodeUpdate(again)
		require.NoError(t, err)
		first, err := Encode(u.Set)
		require.NoError(t, err)
		second, err := Encode(back.Set)
		require.NoError(t, err)
		require.JSONEq(t, string(first), string(second))
		require.Equal(t, u.Removed, back.Removed)
	})
}

// socket is a path short enough for a socket.
func socket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return filepath.Join(dir, "s")
}

func TestListen(t *testing.T) {
	t.Parallel()
	path := socket(t)
	l, err := Listen(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	_, err = Listen(path)
	require.ErrorContains(t, err, "somebody listens there")
	accepted := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.Close()
		}
		accepted <- err
	}()
	conn, err := Unix(path)(t.Context())
	require.NoError(t, err)
	require.NoError(t, <-accepted) // this one, or the one by which the second Listen asked
	require.NoError(t, errors.Join(conn.Close(), l.Close()))

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	stale.SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	l, err = Listen(path)
	require.NoError(t, err, "a socket that nobody listens on is replaced")
	require.NoError(t, l.Close())

	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = Listen(path)
	require.ErrorContains(t, err, "not a socket")
	_, err = Listen("/tmp/" + strings.Repeat("x", 100))
	require.ErrorContains(t, err, "at most 103 bytes")
}

func TestPeers(t *testing.T) {
	t.Parallel()
	require.NoError(t, allowUID(1000, 1000))
	require.ErrorContains(t, allowUID(1001, 1000), "user 1001")
	require.Error(t, allowUID(0, 1000), "root is another user, too")
	left, right := net.Pipe()
	require.ErrorContains(t, samePeer(left), "no peer credentials")
	require.NoError(t, errors.Join(left.Close(), right.Close()))
}

func TestHopeless(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.FailedPrecondition, codes.Unauthenticated, codes.Unimplemented} {
		require.True(t, hopeless(status.Error(code, "")))
	}
	for _, code := range []codes.Code{codes.Unavailable, codes.Aborted, codes.Internal, codes.Canceled} {
		require.False(t, hopeless(status.Error(code, "")))
	}
	require.True(t, hopeless(finalError{errors.New("ours")}))
	require.Equal(t, "why", plain(status.Error(codes.Unavailable, "why")).Error())
}

func TestAnotherMajorIsRefused(t *testing.T) {
	t.Parallel()
	path := socket(t)
	defer serve(t, path, newFake())()
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return Unix(path)(ctx) }))
	require.NoError(t, err)
	defer conn.Close()
	for version, code := range map[string]codes.Code{"2.0": codes.FailedPrecondition, "1.7": codes.OK, "": codes.FailedPrecondition} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), metadataToken, "Bearer token", metadataVersion, version)
		stream, err := pb.NewSidecarClient(conn).Evidence(ctx, &pb.EvidenceRequest{})
		require.NoError(t, err)
		_, err = stream.Recv()
		if code == codes.OK {
			require.ErrorIs(t, err, io.EOF, "there is no evidence")
			continue
		}
		require.Equal(t, code, status.Code(err), version)
		require.True(t, hopeless(err))
	}
}

// TestStopsDespiteASilentPeer: somebody who connects and says nothing keeps nobody from stopping.
func TestStopsDespiteASilentPeer(t *testing.T) {
	t.Parallel()
	path := socket(t)
	stop := serve(t, path, newFake())
	silent, err := Unix(path)(t.Context())
	require.NoError(t, err)
	first := make([]byte, 1)
	_, err = silent.Read(first) // the server's preface: the connection was accepted
	require.NoError(t, err)
	stop()
	_, err = io.ReadAll(silent)
	if err != nil {
		require.ErrorContains(t, err, "reset")
	}
	require.NoError(t, silent.Close())
}
