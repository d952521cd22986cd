package load

import (
	"encoding/binary"
	"net/http"
	"strconv"
	"strings"
)

// A call of gRPC is a POST over HTTP/2 whose body is one message and whose answer says in its trailers how it went (gRPC over HTTP/2). That is little enough to be spoken here: a
// client of gRPC would bring deadlines, retries, balancing and connections of its own, which the load must not have, and megabytes into the agent.

// frame is a message as it stands in a body: not compressed, its length, its bytes.
func frame(message []byte) []byte {
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(framed, message...)
}

// asCall makes a request a call. It may be sent again when the server has certainly seen nothing of it (a refused stream, or one above the last of a GOAWAY), as clients of gRPC do.
func asCall(header http.Header) {
	header["Content-Type"] = []string{"application/grpc"}
	header["Te"] = []string{"trailers"}
}

// outcomeOf is the HTTP status that stands for how a call ended, of which the whole answer is there: that of its gRPC status, unless it was not answered by gRPC. An answer
// without a status breaks the protocol, which clients call UNKNOWN.
func outcomeOf(resp *http.Response) int {
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode
	}
	text := resp.Trailer.Get("Grpc-Status")
	if text == "" {
		text = resp.Header.Get("Grpc-Status") // there was no message
	}
	status, err := strconv.Atoi(text)
	if err != nil || status < 0 || status >= len(httpStatuses) || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		return http.StatusInternalServerError
	}
	return httpStatuses[status]
}

// httpStatuses are the HTTP statuses that stand for those of gRPC, by number (google/rpc/code.proto), as sidecars judge them.
var httpStatuses = [...]int{
	0:  200, // OK
	1:  499, // CANCELLED
	2:  500, // UNKNOWN
	3:  400, // INVALID_ARGUMENT
	4:  504, // DEADLINE_EXCEEDED
	5:  404, // NOT_FOUND
	6:  409, // ALREADY_EXISTS
	7:  403, // PERMISSION_DENIED
	8:  429, // RESOURCE_EXHAUSTED
	9:  400, // FAILED_PRECONDITION
	10: 409, // ABORTED
	11: 400, // OUT_OF_RANGE
	12: 501, // UNIMPLEMENTED
	13: 500, // INTERNAL
	14: 503, // UNAVAILABLE
	15: 500, // DATA_LOSS
	16: 401, // UNAUTHENTICATED
}

// streamReset is net/http's unexported error for a stream that was reset, which fills in any struct with these fields.
type streamReset struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamReset) Error() string { return "the stream was reset" }
