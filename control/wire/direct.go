package wire

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// Direct is the run's client of one sidecar. It holds no connection of its own, so it needs no closing; it is safe for concurrent use.
type Direct struct {
	dial  Dial
	token string
}

// NewDirect returns a client of the sidecar that serves [ServeDirect] with the same token behind dial.
func NewDirect(dial Dial, token string) *Direct { return &Direct{dial: dial, token: token} }

// Evidence tells each the sidecar's blocks, in order and beginning with the one numbered from, until ctx ends or the sidecar has ended its evidence (it returns nil then). After
// a broken connection it goes on behind the last block; blocks that the sidecar no longer has are missing from the sequence. An error of each ends it.
func (d *Direct) Evidence(ctx context.Context, from uint64, each func(mesh.EvidenceBlock) error) error {
	dialogue := func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
		return receiveEvidence(ctx, conn, from, func(b mesh.EvidenceBlock) error {
			from = b.Seq + 1
			return each(b)
		})
	}
	if err := converse(ctx, d.dial, fixed(d.token), func(error) {}, dialogue); err != nil {
		return fmt.Errorf("receiving evidence: %w", plain(err))
	}
	return nil
}

func receiveEvidence(ctx context.Context, conn *grpc.ClientConn, from uint64, each func(mesh.EvidenceBlock) error) (worked bool, err error) {
	stream, err := pb.NewSidecarClient(conn).Evidence(ctx, &pb.EvidenceRequest{From: from})
	if err != nil {
		return false, err
	}
	worked = greeted(stream)
	for {
		envelope, err := stream.Recv()
		if isEnd(err) {
			return worked, nil
		}
		if err != nil {
			return worked, err
		}
		var block mesh.EvidenceBlock
		if err := Decode(envelope.GetBody(), &block); err != nil {
			return worked, finalError{err}
		}
		if err := each(block); err != nil {
			return worked, finalError{err}
		}
	}
}

// Spans asks one sidecar for its spans, on a connection of its own, which is opened when it is needed and made anew when it breaks.
type Spans struct{ conn *grpc.ClientConn }

// Spans returns who asks for the sidecar's spans; it has to be closed.
func (d *Direct) Spans() (*Spans, error) {
	conn, err := connect(d.dial, d.token)
	if err != nil {
		return nil, fmt.Errorf("asking for spans: %w", err)
	}
	return &Spans{conn}, nil
}

// Take returns the spans that the sidecar has recorded since it was asked last, as a list in Zipkin's JSON; lost counts those that it dropped so far because nobody asked in time. Spans of an
// answer that is lost on the way are lost.
func (s *Spans) Take(ctx context.Context) (spans []byte, lost uint64, err error) {
	reply, err := pb.NewSidecarClient(s.conn).Spans(ctx, &pb.SpansRequest{})
	if err != nil {
		return nil, 0, fmt.Errorf("taking spans: %w", plain(err))
	}
	return reply.GetSpans(), reply.GetLost(), nil
}

// Close closes the connection.
func (s *Spans) Close() error { return s.conn.Close() }
