package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"meshtest.dev/meshtest/control/wire/pb"
	"meshtest.dev/meshtest/mesh"
)

// Holding is one answer of a sidecar about a fault that is or was leased to it.
type Holding struct {
	Fault      string
	Accounting mesh.Accounting
	Refused    error // the sidecar cannot execute the fault
}

// Holder keeps faults in force at one sidecar by renewing their leases at a third of their time to live, and by resending all after a reconnect. When it stops, by any
// means, the leases lapse. Its methods are safe for concurrent use.
type Holder struct {
	direct *Direct
	run    string
	epoch  uint64
	told   func(Holding)

	mu      sync.Mutex
	counter uint64
	leases  map[string]*leased // by fault
	changed chan struct{}      // holds one token when something has to be sent
	settled map[string][]chan settlement
}

type leased struct {
	fault mesh.Fault
	ttl   time.Duration // 0: release
	next  time.Time     // when to send next; zero: now
}

type settlement struct {
	accounting mesh.Accounting
	err        error
}

// NewHolder returns a holder for one run, which does nothing until Run. The epoch must be larger than that of any earlier holder of the run. Every answer of the sidecar is
// told, in order; told must not block.
func (d *Direct) NewHolder(run string, epoch uint64, told func(Holding)) *Holder {
	return &Holder{
		direct: d, run: run, epoch: epoch, told: told,
		leases: map[string]*leased{}, changed: make(chan struct{}, 1), settled: map[string][]chan settlement{},
	}
}

// Hold puts a fault in force, for as long as it is renewed; ttl is in (0, [mesh.MaxLeaseTTL]]. That the sidecar holds it is told by a [Holding] in state held.
func (h *Holder) Hold(fault mesh.Fault, ttl time.Duration) error {
	if ttl <= 0 || ttl > mesh.MaxLeaseTTL {
		return fmt.Errorf("leasing fault %s for %v: a lease lasts more than 0 and at most %v", fault.ID, ttl, mesh.MaxLeaseTTL)
	}
	h.put(&leased{fault: fault, ttl: ttl})
	return nil
}

// Release ends a fault. Delays in progress are cut short.
func (h *Holder) Release(fault string) { h.put(&leased{fault: mesh.Fault{ID: fault}}) }

func (h *Holder) put(l *leased) {
	h.mu.Lock()
	h.leases[l.fault.ID] = l
	h.mu.Unlock()
	h.wake()
}

func (h *Holder) wake() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Settle releases a fault and returns its final accounting: what it has done, and what is still in effect although it should not be.
func (h *Holder) Settle(ctx context.Context, fault string) (mesh.Accounting, error) {
	answer := make(chan settlement, 1)
	h.mu.Lock()
	h.settled[fault] = append(h.settled[fault], answer)
	h.mu.Unlock()
	h.Release(fault)
	select {
	case s := <-answer:
		return s.accounting, s.err
	case <-ctx.Done():
		return mesh.Accounting{}, fmt.Errorf("settling fault %s: %w", fault, ctx.Err())
	}
}

// Run holds until ctx ends, and returns nil then. An error says that reconnecting is of no use; until then broken connections are made good.
func (h *Holder) Run(ctx context.Context) error {
	if err := converse(ctx, h.direct.dial, fixed(h.direct.token), func(error) {}, h.dialogue); err != nil {
		return fmt.Errorf("holding faults: %w", plain(err))
	}
	return nil
}

func (h *Holder) dialogue(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pb.NewSidecarClient(conn).Hold(ctx)
	if err != nil {
		return false, err
	}
	if !greeted(stream) {
		_, err := stream.Recv()
		return false, err
	}
	h.makeAllDue()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		h.send(ctx, stream)
	}()
	err = h.receive(stream)
	cancel()
	<-sent
	return true, err
}

func (h *Holder) makeAllDue() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.leases {
		l.next = time.Time{}
	}
}

// send sends what is due until the stream ends; the reason comes with what is received.
func (h *Holder) send(ctx context.Context, stream holdStream) {
	for {
		requests, wait, err := h.due(time.Now())
		for _, request := range requests {
			err = errors.Join(err, stream.Send(request))
		}
		if err != nil {
			_ = stream.CloseSend() // a request that cannot be encoded ends the stream too, so that it is noticed
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-h.changed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// due returns what has to be sent now, and how long it is until something is due again.
func (h *Holder) due(now time.Time) (requests []*pb.HoldRequest, wait time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait = mesh.MaxLeaseTTL
	for name, l := range h.leases {
		if l.next.After(now) {
			wait = min(wait, l.next.Sub(now))
			continue
		}
		request, wrong := h.lease(l)
		err = errors.Join(err, wrong)
		requests = append(requests, request)
		if l.ttl > 0 {
			l.next = now.Add(l.ttl / 3)
			wait = min(wait, l.ttl/3)
			continue
		}
		l.next = now.Add(365 * 24 * time.Hour) // a release is said once on each connection
		if len(h.settled[name]) > 0 {
			requests = append(requests, &pb.HoldRequest{Request: &pb.HoldRequest_Settle{Settle: &pb.Settle{Fault: name}}})
		}
	}
	return requests, wait, err
}

func (h *Holder) lease(l *leased) (*pb.HoldRequest, error) {
	h.counter++
	lease, err := Encode(mesh.Lease{Run: h.run, Fault: l.fault.ID, Epoch: h.epoch, Counter: h.counter, TTL: l.ttl})
	if err != nil {
		return nil, err
	}
	request := &pb.LeaseRequest{Lease: lease}
	if l.ttl > 0 {
		if request.Fault, err = Encode(l.fault); err != nil {
			return nil, err
		}
	}
	return &pb.HoldRequest{Request: &pb.HoldRequest_Lease{Lease: request}}, nil
}

// receive passes the sidecar's answers on until the stream ends.
func (h *Holder) receive(stream holdStream) error {
	for {
		reply, err := stream.Recv()
		if isEnd(err) {
			return errors.New("the sidecar ended the stream")
		}
		if err != nil {
			return err
		}
		holding, err := decodeHolding(reply)
		if err != nil {
			return finalError{err}
		}
		h.told(holding)
		if reply.GetFinal() {
			h.settle(holding)
		}
	}
}

func decodeHolding(reply *pb.HoldReply) (Holding, error) {
	holding := Holding{Fault: reply.GetFault()}
	if reply.GetError() != "" {
		holding.Refused = errors.New(reply.GetError())
		return holding, nil
	}
	return holding, Decode(reply.GetAccounting(), &holding.Accounting)
}

func (h *Holder) settle(final Holding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, answer := range h.settled[final.Fault] {
		answer <- settlement{final.Accounting, final.Refused}
	}
	delete(h.settled, final.Fault)
	if l := h.leases[final.Fault]; l != nil && l.ttl == 0 {
		delete(h.leases, final.Fault)
	}
}

type holdStream = grpc.BidiStreamingClient[pb.HoldRequest, pb.HoldReply]
