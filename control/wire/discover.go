package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// Sink is who carries configuration out.
type Sink interface {
	// Apply carries an update out as a whole or, with an error, not at all. Nil means that new requests use it and that its listeners are bound. Calls do not overlap. The update's
	// generation is the one that is whole once this update is applied; an update without content only tells that.
	Apply(mesh.Update) error
}

// Discover keeps a sidecar's configuration current until ctx ends, and returns nil then. When the connection breaks it comes back, after a wait of between 0 and 50 ms that
// doubles up to 5 s, and is resent only what differs; meanwhile the sink keeps what it has. An error says that coming back is of no use: the control plane speaks
// another major of the protocol, or knows neither this instance nor its token, unless the token comes from a [TokenSource].
func Discover(ctx context.Context, dial Dial, hello Hello, sink Sink, log *slog.Logger) error {
	d := discovery{hello: hello, sink: sink, log: log, held: map[mesh.Kind]map[string]string{}}
	lost := func(err error) {
		log.Warn("the control plane is out of reach; the configuration stays as it is", "error", plain(err))
	}
	if err := converse(ctx, dial, hello.source(), lost, d.dialogue); err != nil {
		return fmt.Errorf("asking the control plane for configuration: %w", plain(err))
	}
	return nil
}

// discovery is what outlives connections: what the sink holds.
type discovery struct {
	hello      Hello
	sink       Sink
	log        *slog.Logger
	held       map[mesh.Kind]map[string]string // versions by name
	generation mesh.Generation
}

type discoveryStream = grpc.BidiStreamingClient[pb.DiscoveryRequest, pb.Update]

func (d *discovery) dialogue(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
	stream, err := pb.NewDiscoveryClient(conn).Stream(ctx)
	if err != nil {
		return false, err
	}
	worked := greeted(stream)
	if worked {
		err = d.introduce(stream)
	}
	for err == nil || errors.Is(err, io.EOF) { // the reason why a send ended in EOF comes with the next receive
		var update *pb.Update
		if update, err = stream.Recv(); err != nil {
			break
		}
		err = stream.Send(&pb.DiscoveryRequest{Request: &pb.DiscoveryRequest_Ack{Ack: d.carryOut(update)}})
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the control plane ended the stream")
	}
	if d.hello.TokenSource != nil && status.Code(err) == codes.Unauthenticated {
		return false, plain(err)
	}
	return worked, err
}

func (d *discovery) introduce(stream discoveryStream) error {
	hello := &pb.Hello{Instance: d.hello.Instance, Generation: Generation(d.generation)}
	if err := stream.Send(&pb.DiscoveryRequest{Request: &pb.DiscoveryRequest_Hello{Hello: hello}}); err != nil {
		return err
	}
	all := &pb.Subscribe{}
	for _, kind := range mesh.Kinds() {
		interest := &pb.Interest{Kind: string(kind), Add: []string{Everything}}
		for name, version := range d.held[kind] {
			interest.Held = append(interest.Held, &pb.Held{Name: name, Version: version})
		}
		all.Interests = append(all.Interests, interest)
	}
	return stream.Send(&pb.DiscoveryRequest{Request: &pb.DiscoveryRequest_Subscribe{Subscribe: all}})
}

// carryOut applies an update and says how that went.
func (d *discovery) carryOut(update *pb.Update) *pb.Ack {
	ack := &pb.Ack{Kind: update.GetKind(), Nonce: update.GetNonce()}
	decoded, err := DecodeUpdate(update)
	if err == nil {
		err = d.sink.Apply(decoded)
	}
	if err != nil {
		d.log.Error("refused an update", "kind", update.GetKind(), "generation", decoded.Generation.String(), "error", err)
		ack.Error = err.Error()
		return ack
	}
	d.remember(decoded, update)
	return ack
}

func (d *discovery) remember(decoded mesh.Update, update *pb.Update) {
	held := d.held[decoded.Kind]
	if held == nil {
		held = map[string]string{}
		d.held[decoded.Kind] = held
	}
	for _, r := range update.GetResources() {
		held[r.GetName()] = r.GetVersion()
	}
	for _, name := range update.GetRemoved() {
		delete(held, name)
	}
	if decoded.Generation.Compare(d.generation) > 0 {
		d.generation = decoded.Generation
	}
}
