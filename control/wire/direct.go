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
