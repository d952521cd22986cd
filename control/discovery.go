package control

import (
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/control/wire/pb"
)

// discovery serves sidecars.
type discovery struct {
	pb.UnimplementedDiscoveryServer
	*Server
}

// Stream is one sidecar's stream: what arrives goes to the core, and what the core has for the sidecar is sent.
func (s discovery) Stream(grpcStream grpc.BidiStreamingServer[pb.DiscoveryRequest, pb.Update]) error {
	first, err := grpcStream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello.GetInstance() == "" {
		return status.Error(codes.InvalidArgument, "a stream begins with a hello that names the instance")
	}
	if err := s.options.Authenticate(grpcStream.Context(), hello.GetInstance(), wire.Token(grpcStream.Context())); err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	id, box := s.connect(hello)
	s.readers.Go(func() { box.close(s.read(id, grpcStream)) }) // ends with the stream, which ends when this function returns
	err = deliver(grpcStream.Context(), box, grpcStream.Send)
	s.disconnect(id, errors.New(status.Convert(err).Message()))
	return err
}

func (s discovery) connect(hello *pb.Hello) (id stream, box *mailbox[*pb.Update]) {
	box = newMailbox[*pb.Update](outboxLimit)
	_ = s.decide(func(time.Duration) (out output, err error) {
		id, out = s.core.connect(hello)
		s.outboxes[id] = box
		return out, nil
	})
	return id, box
}

// outboxLimit is never reached: at most one update per kind is unanswered.
const outboxLimit = 16

func (s discovery) disconnect(id stream, why error) {
	_ = s.decide(func(time.Duration) (output, error) {
		out := s.core.disconnect(id, why)
		delete(s.outboxes, id)
		return out, nil
	})
}

// read passes a sidecar's messages to the core until the stream ends, and returns why.
func (s discovery) read(id stream, from grpc.BidiStreamingServer[pb.DiscoveryRequest, pb.Update]) error {
	for {
		request, err := from.Recv()
		if err != nil {
			return err
		}
		err = s.decide(func(now time.Duration) (output, error) {
			switch r := request.GetRequest().(type) {
			case *pb.DiscoveryRequest_Subscribe:
				return s.core.subscribe(now, id, r.Subscribe)
			case *pb.DiscoveryRequest_Ack:
				return s.core.answer(now, id, r.Ack)
			default:
				return output{due: never}, errors.New("after the hello, a sidecar subscribes and answers")
			}
		})
		if err != nil {
			return status.Error(codes.Internal, err.Error()) // not the sidecar's last word: it comes back
		}
	}
}
