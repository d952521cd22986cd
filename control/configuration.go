package control

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
)

// configuration serves the owner.
type configuration struct {
	pb.UnimplementedConfigurationServer
	*Server
}

func (s configuration) Apply(ctx context.Context, request *pb.ApplyRequest) (*pb.ApplyReply, error) {
	change, err := wire.DecodeChange(request)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	applied, err := s.options.Apply(ctx, change)
	var refused *wire.RefusedError
	switch {
	case errors.As(err, &refused):
		return &pb.ApplyReply{Mistakes: refused.Mistakes}, nil
	case errors.Is(err, ErrReplaced):
		return nil, status.Error(codes.Unavailable, err.Error())
	case err != nil:
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	default:
		return &pb.ApplyReply{Generation: wire.Generation(applied.Generation), Affected: applied.Affected}, nil
	}
}

// watcherLimit bounds how far a watcher may fall behind, in messages.
const watcherLimit = 1 << 17

func (s configuration) Watch(_ *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.Progress]) error {
	box := newMailbox[wire.Progress](watcherLimit)
	s.mu.Lock()
	for _, p := range s.core.state() {
		box.put(p)
	}
	s.watchers[box] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, box)
	}()
	return deliver(stream.Context(), box, func(p wire.Progress) error { return stream.Send(wire.EncodeProgress(p)) })
}
