package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// Leaseholder is who executes faults in a sidecar.
type Leaseholder interface {
	// Lease takes, renews or (with a TTL of 0, then fault has only its ID) releases the fault. A lease that is not newer than what it has changes nothing. The error
	// says why the fault cannot be executed.
	Lease(lease mesh.Lease, fault mesh.Fault) error
	// Account returns what has been done for the fault so far, and a channel that is closed when its state changes next or, after its end, its last effect is over. ok is false
	// when the fault was never leased.
	Account(fault string) (a mesh.Accounting, changed <-chan struct{}, ok bool)
}

// EvidenceSource is who keeps a sidecar's recent evidence.
type EvidenceSource interface {
	// Next returns the oldest block that it still has whose Seq is at least from, and waits for one until ctx ends. io.EOF says that no more will come.
	Next(ctx context.Context, from uint64) (mesh.EvidenceBlock, error)
}

// SpanSource is who keeps a sidecar's spans until they are asked for.
type SpanSource interface {
	// TakeSpans returns the spans that wait, as a list in Zipkin's JSON, and forgets them; lost counts those that were dropped so far because nobody took them in time.
	TakeSpans() (spans []byte, lost uint64)
}

// How often the holder of a lease hears what its fault did, and how long a released fault may take to let go before what is left is reported as residue.
const (
	AccountingInterval = 250 * time.Millisecond
	SettleTimeout      = time.Second
)

// ServeDirect serves the run on the sidecar's own socket until ctx ends, and returns when every call has returned. Callers must show a token that verify recognises, such
// as [Verify] and [VerifyDigest] do.
func ServeDirect(ctx context.Context, listener net.Listener, verify func(token string) bool, leases Leaseholder, evidence EvidenceSource, spans SpanSource) error {
	return serveDirect(ctx, listener, verify, &direct{leases: leases, evidence: evidence, spans: spans, settling: SettleTimeout})
}

func serveDirect(ctx context.Context, listener net.Listener, verify func(token string) bool, d *direct) error {
	server := NewServer(func(ctx context.Context, _ string) error {
		if !verify(Token(ctx)) {
			return errors.New("the token is not this sidecar's")
		}
		return nil
	})
	pb.RegisterSidecarServer(server, d)
	if err := Serve(ctx, server, listener); err != nil {
		return fmt.Errorf("serving the run directly: %w", err)
	}
	return nil
}

type direct struct {
	pb.UnimplementedSidecarServer
	leases   Leaseholder
	evidence EvidenceSource
	spans    SpanSource
	settling time.Duration // how long a released fault may take to let go
}

func (d *direct) Spans(context.Context, *pb.SpansRequest) (*pb.SpansReply, error) {
	spans, lost := d.spans.TakeSpans()
	return &pb.SpansReply{Spans: spans, Lost: lost}, nil
}

func (d *direct) Evidence(request *pb.EvidenceRequest, stream grpc.ServerStreamingServer[pb.EvidenceBlock]) error {
	for from := request.GetFrom(); ; {
		block, err := d.evidence.Next(stream.Context(), from)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		body, err := Encode(block)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if err := stream.Send(&pb.EvidenceBlock{Body: body}); err != nil {
			return err
		}
		from = block.Seq + 1
	}
}

func (d *direct) Hold(stream grpc.BidiStreamingServer[pb.HoldRequest, pb.HoldReply]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	h := &holding{direct: d, stream: stream, followed: map[string]bool{}}
	defer h.followers.Wait()
	defer cancel()
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch r := request.GetRequest().(type) {
		case *pb.HoldRequest_Lease:
			err = h.lease(ctx, r.Lease)
		case *pb.HoldRequest_Settle:
			h.followers.Go(func() { h.settle(ctx, r.Settle.GetFault()) }) // it waits, and renewals must not
		}
		if err != nil {
			return err
		}
	}
}

// holding is one holder's stream.
type holding struct {
	*direct
	stream    grpc.BidiStreamingServer[pb.HoldRequest, pb.HoldReply]
	sending   sync.Mutex
	followed  map[string]bool // faults with a follower
	followers sync.WaitGroup
}

func (h *holding) send(reply *pb.HoldReply) error {
	h.sending.Lock()
	defer h.sending.Unlock()
	return h.stream.Send(reply)
}

// lease carries out one message. What cannot be understood ends the stream; what cannot be executed is answered.
func (h *holding) lease(ctx context.Context, request *pb.LeaseRequest) error {
	lease, fault, err := decodeLease(request)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if err := h.leases.Lease(lease, fault); err != nil {
		return h.send(&pb.HoldReply{Fault: lease.Fault, Error: err.Error()})
	}
	if !h.followed[lease.Fault] {
		h.followed[lease.Fault] = true
		h.followers.Go(func() { h.follow(ctx, lease.Fault) })
	}
	return nil
}

func decodeLease(request *pb.LeaseRequest) (lease mesh.Lease, fault mesh.Fault, err error) {
	if err = Decode(request.GetLease(), &lease); err != nil {
		return lease, fault, err
	}
	if lease.TTL == 0 {
		return lease, mesh.Fault{ID: lease.Fault}, nil
	}
	if err = Decode(request.GetFault(), &fault); err == nil && fault.ID != lease.Fault {
		err = fmt.Errorf("the lease is for fault %q and came with fault %q", lease.Fault, fault.ID)
	}
	return lease, fault, err
}

// follow tells the holder what a fault does: at once, at each change, and regularly while it is held.
func (h *holding) follow(ctx context.Context, fault string) {
	for {
		a, changed, ok := h.leases.Account(fault)
		if !ok || h.account(fault, a, false) != nil {
			return
		}
		var again <-chan time.Time
		if a.State == mesh.LeaseHeld || a.Active > 0 {
			again = time.After(AccountingInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

func (h *holding) account(fault string, a mesh.Accounting, final bool) error {
	body, err := Encode(a)
	if err != nil {
		return err
	}
	return h.send(&pb.HoldReply{Fault: fault, Accounting: body, Final: final})
}

// settle answers with the last accounting of a fault, once nothing of it is in effect or that takes too long.
func (h *holding) settle(ctx context.Context, fault string) {
	timeout := time.After(h.settling)
	for late := false; ; {
		a, changed, ok := h.leases.Account(fault)
		if !ok {
			_ = h.send(&pb.HoldReply{Fault: fault, Final: true, Error: "this sidecar never held the fault"}) // a broken stream ends itself
			return
		}
		if late || (a.State != mesh.LeaseHeld && a.Active == 0) {
			_ = h.account(fault, a, true)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timeout:
			late = true
		case <-changed:
		}
	}
}
