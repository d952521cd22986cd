package http1

import "errors"

// ErrNeedMore says that the buffer ends before the message head does, and that nothing in it is wrong so far: read more and call again.
var ErrNeedMore = errors.New("http1: message head is incomplete")

// ProtocolError is the refusal of a message. All of them are allocated once, so they compare by identity; Reasons lists them.
// After one, the connection that it came from holds nothing that can be trusted: answer (a request), close, and never use it again.
type ProtocolError struct {
	Status int    // what to answer: 400, 414, 417, 431, 501 or 505 for a request, 502 for a response
	Reason string // stable snake_case name, fit for a counter's label
	Text   string // one line for people
	Index  int    // dense number of Reason, from 0 to NumReasons-1, equal for request and response: an array of counters needs no hashing
}

// Error gives the reason and what is wrong.
func (e *ProtocolError) Error() string { return "http1: " + e.Reason + ": " + e.Text }

// NumReasons is the number of distinct reasons: the length of an array indexed by ProtocolError.Index.
const NumReasons = int(numFaults)

// Reasons lists every refusal of one side, in the order of Index.
func Reasons(side Side) []*ProtocolError {
	list := make([]*ProtocolError, numFaults)
	for f := range numFaults {
		list[f] = side.refuse(f)
	}
	return list
}

// ErrHTTP2Preface is what ParseRequest returns for the connection preface of HTTP/2 (RFC 9113, 3.4): the caller may hand the connection, from its first byte
// on, to an HTTP/2 codec, or close it.
var ErrHTTP2Preface = &requestErrors[faultHTTP2Preface]

// ErrTruncated and ErrResponseTruncated are what BodyScanner.EOF returns when the peer closed before the message ended (RFC 9112, 8).
var (
	ErrTruncated         = &requestErrors[faultTruncated]
	ErrResponseTruncated = &responseErrors[faultTruncated]
)

// Side is the direction of a message: it decides what a refusal answers and which rules hold.
type Side uint8

// The two directions of a message.
const (
	Request  Side = iota // client to server
	Response             // server to client
)

func (s Side) refuse(f fault) *ProtocolError {
	if s == Response {
		return &responseErrors[f]
	}
	return &requestErrors[f]
}

// fault numbers the ways to be wrong; ok is none of them.
type fault int16

const (
	ok       fault = -1
	needMore fault = -2
)

const (
	faultBareCR fault = iota
	faultBareLF
	faultControlCharacter
	faultHeaderTooLarge
	faultTooManyHeaders
	faultObsFold
	faultLeadingWhitespace
	faultHeaderWithoutColon
	faultHeaderNameEmpty
	faultHeaderNameInvalid
	faultSpaceBeforeColon
	faultHeaderUnderscore
	faultLeadingEmptyLine
	faultRequestLineIncomplete
	faultRequestLineWhitespace
	faultMethodInvalid
	faultMethodTooLong
	faultTargetMissing
	faultTargetInvalid
	faultTargetTooLong
	faultTargetForm
	faultTargetScheme
	faultAuthorityInvalid
	faultAuthorityMismatch
	faultFragment
	faultPathEscape
	faultPathNUL
	faultPathBackslash
	faultHTTP09
	faultVersionInvalid
	faultVersionUnsupported
	faultHTTP2Preface
	faultTLS
	faultHostMissing
	faultHostDuplicate
	faultHostInvalid
	faultContentLengthInvalid
	faultContentLengthDuplicate
	faultTransferEncodingInvalid
	faultTransferEncodingDuplicate
	faultTransferEncodingUnsupported
	faultTransferEncodingHTTP10
	faultLengthAndEncoding
	faultBodyNotAllowed
	faultConnectionInvalid
	faultExpectation
	faultStatusLineInvalid
	faultStatusInvalid
	faultUnsolicitedUpgrade
	faultChunkSize
	faultChunkTooLarge
	faultChunkExtension
	faultChunkExtensionTooLarge
	faultChunkTerminator
	faultTrailerForbidden
	faultTruncated
	numFaults
)

// requestErrors is the table of refusals; where a status is missing it is 400.
var requestErrors = numbered([numFaults]ProtocolError{
	faultBareCR:                      {Reason: "bare_cr", Text: "a CR that is not followed by LF"},
	faultBareLF:                      {Reason: "bare_lf", Text: "a line that ends in LF without CR"},
	faultControlCharacter:            {Reason: "control_character", Text: "a control character in a line"},
	faultHeaderTooLarge:              {Reason: "header_too_large", Status: 431, Text: "the header block is larger than the limit"},
	faultTooManyHeaders:              {Reason: "too_many_headers", Status: 431, Text: "more header lines than the limit"},
	faultObsFold:                     {Reason: "obs_fold", Text: "a header continued on the next line"},
	faultLeadingWhitespace:           {Reason: "leading_whitespace", Text: "whitespace before the first header"},
	faultHeaderWithoutColon:          {Reason: "header_without_colon", Text: "a header line without a colon"},
	faultHeaderNameEmpty:             {Reason: "header_name_empty", Text: "a header without a name"},
	faultHeaderNameInvalid:           {Reason: "header_name_invalid", Text: "a header name that is not a token"},
	faultSpaceBeforeColon:            {Reason: "space_before_colon", Text: "whitespace between header name and colon"},
	faultHeaderUnderscore:            {Reason: "header_underscore", Text: "a known header spelled with underscores"},
	faultLeadingEmptyLine:            {Reason: "leading_empty_line", Text: "more than one empty line before the message"},
	faultRequestLineIncomplete:       {Reason: "request_line_incomplete", Text: "a request line that is only a method"},
	faultRequestLineWhitespace:       {Reason: "request_line_whitespace", Text: "whitespace other than two single spaces in the request line"},
	faultMethodInvalid:               {Reason: "method_invalid", Text: "a method that is not a token"},
	faultMethodTooLong:               {Reason: "method_too_long", Status: 501, Text: "a method longer than any that is known"},
	faultTargetMissing:               {Reason: "target_missing", Text: "a request line without a target"},
	faultTargetInvalid:               {Reason: "target_invalid", Text: "a character in the target that is not visible ASCII"},
	faultTargetTooLong:               {Reason: "target_too_long", Status: 414, Text: "the request target is longer than the limit"},
	faultTargetForm:                  {Reason: "target_form", Text: "a form of target that this method does not have"},
	faultTargetScheme:                {Reason: "target_scheme", Text: "an absolute target whose scheme is neither http nor https"},
	faultAuthorityInvalid:            {Reason: "authority_invalid", Text: "the authority of the target is not host[:port]"},
	faultAuthorityMismatch:           {Reason: "authority_mismatch", Text: "the authority of the target and Host differ"},
	faultFragment:                    {Reason: "fragment", Text: "a fragment in the target"},
	faultPathEscape:                  {Reason: "path_escape_invalid", Text: "a percent sign in the path without two hexadecimal digits"},
	faultPathNUL:                     {Reason: "path_nul", Text: "%00 in the path"},
	faultPathBackslash:               {Reason: "path_backslash", Text: "a backslash in the path"},
	faultHTTP09:                      {Reason: "http_0_9", Text: "a request line without a version"},
	faultVersionInvalid:              {Reason: "version_invalid", Text: "a version that is not HTTP/DIGIT.DIGIT"},
	faultVersionUnsupported:          {Reason: "version_unsupported", Status: 505, Text: "a version other than HTTP/1.0 and HTTP/1.1"},
	faultHTTP2Preface:                {Reason: "http2_preface", Status: 505, Text: "the preface of HTTP/2 on a connection for HTTP/1.1"},
	faultTLS:                         {Reason: "tls_on_plaintext", Text: "a TLS handshake on a plaintext connection"},
	faultHostMissing:                 {Reason: "host_missing", Text: "an HTTP/1.1 request without Host"},
	faultHostDuplicate:               {Reason: "host_duplicate", Text: "more than one Host"},
	faultHostInvalid:                 {Reason: "host_invalid", Text: "a Host that is not host[:port]"},
	faultContentLengthInvalid:        {Reason: "content_length_invalid", Text: "a Content-Length that is not a canonical decimal below 2^63"},
	faultContentLengthDuplicate:      {Reason: "content_length_duplicate", Text: "more than one Content-Length"},
	faultTransferEncodingInvalid:     {Reason: "transfer_encoding_invalid", Text: "a Transfer-Encoding that is not chunked"},
	faultTransferEncodingDuplicate:   {Reason: "transfer_encoding_duplicate", Text: "more than one Transfer-Encoding"},
	faultTransferEncodingUnsupported: {Reason: "transfer_encoding_unsupported", Status: 501, Text: "a transfer coding besides chunked"},
	faultTransferEncodingHTTP10:      {Reason: "transfer_encoding_http_1_0", Text: "Transfer-Encoding in an HTTP/1.0 message"},
	faultLengthAndEncoding:           {Reason: "content_length_and_transfer_encoding", Text: "both Content-Length and Transfer-Encoding"},
	faultBodyNotAllowed:              {Reason: "body_not_allowed", Text: "framing of a body on a message that cannot have one"},
	faultConnectionInvalid:           {Reason: "connection_invalid", Text: "a Connection that is not a short list of tokens"},
	faultExpectation:                 {Reason: "expectation_unsupported", Status: 417, Text: "an Expect other than 100-continue"},
	faultStatusLineInvalid:           {Reason: "status_line_invalid", Text: "a status line that does not parse"},
	faultStatusInvalid:               {Reason: "status_invalid", Text: "a status code outside 100 to 599"},
	faultUnsolicitedUpgrade:          {Reason: "unsolicited_upgrade", Text: "101 without a request to upgrade, or without Upgrade"},
	faultChunkSize:                   {Reason: "chunk_size_invalid", Text: "a chunk size that is not hexadecimal digits"},
	faultChunkTooLarge:               {Reason: "chunk_size_overflow", Text: "a chunk size above 2^63-1 or of more than 16 digits"},
	faultChunkExtension:              {Reason: "chunk_extension_invalid", Text: "a chunk extension that does not follow the grammar"},
	faultChunkExtensionTooLarge:      {Reason: "chunk_extension_too_large", Text: "more bytes of chunk extensions than the limit"},
	faultChunkTerminator:             {Reason: "chunk_terminator", Text: "chunk data that is not followed by CRLF"},
	faultTrailerForbidden:            {Reason: "trailer_forbidden", Text: "a trailer that may only be a header"},
	faultTruncated:                   {Reason: "truncated", Text: "the connection ended inside the message"},
})

// responseErrors is the same table for what an upstream sent: 502 throughout.
var responseErrors = badGateway(requestErrors)

func numbered(table [numFaults]ProtocolError) [numFaults]ProtocolError {
	for i := range table {
		table[i].Index = i
		if table[i].Status == 0 {
			table[i].Status = 400
		}
	}
	return table
}

func badGateway(table [numFaults]ProtocolError) [numFaults]ProtocolError {
	for i := range table {
		table[i].Status = 502
	}
	return table
}
