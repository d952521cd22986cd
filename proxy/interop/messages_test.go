package interop

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/interop/grpc_testing"
)

// tells are the messages that a sidecar has told of, both ways, and the labels that tell who reports.
func (s sidecar) tells(t *testing.T) string {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(s.metrics.AppendText(nil)))
	require.NoError(t, err)
	tell := func(name string) string {
		text := ""
		for _, m := range families[name].GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			text += fmt.Sprintf("%s %s %s %g", labels["reporter"], labels["source_app"], labels["destination_app"], m.GetCounter().GetValue())
		}
		return text
	}
	return tell("istio_request_messages_total") + " | " + tell("istio_response_messages_total")
}

func (c *chain) requireTold(t *testing.T, request, response int) {
	t.Helper()
	for reporter, s := range map[string]sidecar{"source": c.out, "destination": c.in} {
		want := fmt.Sprintf("%[1]s client server %[2]d | %[1]s client server %[3]d", reporter, request, response)
		require.Eventually(t, func() bool { return s.tells(t) == want }, patience, time.Millisecond, "want %s", want)
	}
}

// Both ends of a call count its messages, whatever the frames and windows they came in.
func TestMessagesAreCounted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name              string
		run               func(context.Context, client)
		request, response int
	}{
		{"an empty one", unary(interop.DoEmptyUnaryCall), 1, 1},
		{"a large one", unary(interop.DoLargeUnaryCall), 1, 1},
		{"client's stream", unary(interop.DoClientStreaming), 4, 1},
		{"server's stream", unary(interop.DoServerStreaming), 1, 4},
		{"both", unary(interop.DoPingPong), 4, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newChain(t, newServer(t))
			cc := dial(t, c.address)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.NoError(t, judged(func() { test.run(ctx, client{cc, grpc_testing.NewTestServiceClient(cc)}) }))
			c.requireTold(t, test.request, test.response)
		})
	}
}

// A stream may last for hours: what came of it is told while it does, and no more when it has ended.
func TestMessagesAreToldWhileAStreamIsOpen(t *testing.T) {
	t.Parallel()
	c := newChain(t, newServer(t))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := grpc_testing.NewTestServiceClient(dial(t, c.address)).FullDuplexCall(ctx)
	require.NoError(t, err)
	ask := &grpc_testing.StreamingOutputCallRequest{ResponseParameters: []*grpc_testing.ResponseParameters{{Size: 100}, {Size: 70000}}}
	for n := 1; n <= 3; n++ {
		require.NoError(t, stream.Send(ask))
		for range 2 {
			_, err := stream.Recv()
			require.NoError(t, err)
		}
		if n > 1 { // an answer that came with the head is told with what follows
			c.requireTold(t, n, 2*n)
		}
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.Error(t, err)
	c.requireTold(t, 3, 6)
}
