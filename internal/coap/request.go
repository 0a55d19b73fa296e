package coap

import (
	"io"
	"time"
)

// Request is a request to a peer, for [Endpoint.Do], [Endpoint.Go] and [Endpoint.Observe]. They do
// not change it and keep nothing of it after its end. Its functions are called one at a time: by Do
// and Observe in the goroutine of their caller, else in goroutines of the endpoint.
type Request struct {
	Code Code
	// Path and Queries are unescaped segments and queries, each of at most 255 bytes.
	Path    []string
	Queries []string
	// ContentFormat is the format of the body, Accept the requested format of the response.
	ContentFormat, Accept Format
	// Options are further options, sorted by ID. The endpoint adds those with a field here and the
	// block options.
	Options Options

	// Payload is the body, unless Body is set.
	Payload []byte
	// Body is read at offsets in [0, Size) as needed, possibly more than once. The endpoint sends
	// bodies larger than a block by Block1.
	Body io.ReaderAt
	Size int64

	// BodyOffset is where an upload continues: a multiple of 16. The peer must hold the bytes
	// before it from an earlier attempt (see ExchangeError.Done); otherwise it answers 4.08 and the
	// upload starts again from the beginning.
	BodyOffset int64

	// NonConfirmable sends a request that fits one message as NON: once, and unacknowledged.
	NonConfirmable bool
	// BlockSize is the preferred size of blocks in both directions: 16 to 1024. Default: that of
	// the endpoint. The peer may lower it. A larger value, up to 16 KiB, is how much of the body
	// one message carries on a stream whose peer accepts several blocks of 1024 in a message (BERT,
	// RFC 8323, section 6).
	BlockSize int
	// Idle limits the wait for the response to each message after its acknowledgement, and the
	// whole wait on a stream. Default 93 s (MAX_TRANSMIT_WAIT).
	Idle time.Duration
	// Stall is how long a block-wise transfer that has begun may go without progress. Until then
	// the endpoint repeats rounds of retransmissions of unacknowledged blocks, and requests blocks
	// of a GET or FETCH again that were acknowledged but did not arrive within Idle. Default 300 s;
	// negative means one round. If set, it applies to the first message too, which otherwise has
	// one round.
	Stall time.Duration
	// SkipTaken is for a peer that accepts the blocks of an upload only in order, and does not
	// recognize duplicates. If an acknowledgement is lost, such a peer answers the retransmitted
	// block, which it already has, with 5.03. With SkipTaken, the endpoint then sends the next
	// block: a peer that lacks the one before refuses it as well, and anything but success ends the
	// upload. A peer that accepts gaps would store a hole.
	SkipTaken bool
	// Restarts limits how often an upload begins again after 4.08. Default 3; negative means never.
	Restarts int
	// BusyRetry limits how long the request is repeated after 5.03 or 4.29, at the interval of the
	// answer's Max-Age. Default: 320 s for the blocks of a body in transfer, else no repetition.
	BusyRetry time.Duration
	// Notice is called, in order, with what happens to the request while it waits, perhaps before
	// Go has returned, but never after the end. It is called with no lock held, and must not block.
	Notice func(Notice)
	// SentHere makes Go itself, or a call that ends another request, call Notice with NoticeSent,
	// both with locks held: that needs no goroutine, but Notice must then neither block nor call
	// this package.
	SentHere bool
	// Progress is called after each block of a body (of the upload, else of the download) with the
	// bytes done, and the total or -1.
	Progress func(done, total int64)

	// Begun is called once, before the first byte of a download goes to Into, with the entity-tag,
	// or nil, and the total or -1. The callee owns the slice.
	Begun func(etag []byte, total int64)
	// Into receives the body of a success response in order, in place of Response.Payload. An error
	// from it ends the transfer.
	Into io.Writer
	// Offset is where the download begins: a multiple of 16. The bytes before are not requested.
	// The endpoint lowers the block size if necessary.
	Offset int64
	// ETag, if not empty, is the entity-tag that the download must have. With another one Do fails
	// with ErrETagChanged before anything is written.
	ETag []byte
	// Total is the size of the whole body, if a response to an earlier part has announced it, else
	// 0. The download must have that size.
	Total int64
	// MaxBody limits the body of the response. Default: that of the endpoint; with Into only the
	// range of block numbers.
	MaxBody int64
}

// Response is a response from a peer, whose Payload the caller owns, or from a [Handler].
type Response struct {
	Code Code
	// ContentFormat describes the body.
	ContentFormat Format
	// ETag is the entity-tag: up to 8 bytes. If a handler's response needs several blocks and has
	// none, the endpoint makes one from Payload.
	ETag []byte
	// Options are further options, sorted by ID, without Content-Format, ETag, Observe and those of
	// block-wise transfer.
	Options Options

	// Payload is the body, unless Body is set.
	Payload []byte
	// Body is the body of a handler's response, read at offsets in [0, Size) as the peer requests
	// it. The endpoint serves its blocks without the handler and keeps Body until the peer stops.
	// If Body implements io.Closer, it is closed then.
	Body io.ReaderAt
	// Size is the size of Body. In a peer's response it is where the body ended; if the response
	// came in the middle of a body, how much of it had arrived.
	Size int64
	// Limit, in a peer's 4.13, is Size1: the largest body that the peer accepts, in bytes; else -1.
	Limit int64
	// Progress is called after each block of Body or Payload that was sent by Block2, with the
	// block's end and the size of the body. It must not block.
	Progress func(end, size int64)

	// After, if not nil, is called once, when the response has been sent or, if separate, when it
	// was acknowledged or given up.
	After func()
	// Confirm, if not nil, is called once, with nil when the peer has shown that it received the
	// response. For that, the response over UDP is sent separately and confirmably. If the address
	// was forged, its real owner rejects the response ([ErrReset]), and an attacker elsewhere does
	// not see the message and cannot acknowledge it. Other transports have verified the address
	// before.
	Confirm func(error)
	// Soon means that the same request may get a better response in 2 s. In datagrams the response
	// is not sent if the request was not acknowledged: the peer repeats the request by itself.
	Soon bool
}

// Sink receives the body of an incoming request as its blocks arrive.
type Sink interface {
	// Write takes the next bytes of the body, and must not keep p. An error ends the transfer: a
	// *[StatusError] with its code, ErrTooLarge with 4.13, any other with 5.00.
	io.Writer
	// Abort is called instead of the handler when the body will not be completed: the peer became
	// silent or started again, or Write failed.
	Abort(err error)
}

// announced returns the size of the body that a response announces, or -1. Some peers send 0 if
// they do not know it.
func announced(m *wireMessage) int64 {
	if v, ok := Uint(m.options, Size2); ok && v > 0 {
		return int64(v)
	}
	return -1
}

// newResponse copies a response without its payload. Size is the announced size.
func newResponse(m *wireMessage) *Response {
	r := &Response{Code: m.code, ContentFormat: formatOf(m.options, ContentFormat), Limit: -1, Size: announced(m)}
	if v, ok := Uint(m.options, Size1); ok && m.code == RequestEntityTooLarge {
		r.Limit = int64(v)
	}
	size, n := 0, 0
	for _, o := range m.options {
		size += len(o.Value)
		n++
	}
	values := make([]byte, 0, size)
	for _, o := range m.options {
		switch o.ID {
		case ContentFormat, Observe, Block1, Block2, Size1, Size2:
			continue
		}
		at := len(values)
		values = append(values, o.Value...)
		v := values[at:len(values):len(values)]
		if o.ID == ETag {
			r.ETag = v
			continue
		}
		if r.Options == nil {
			r.Options = make(Options, 0, n)
		}
		r.Options = append(r.Options, Option{ID: o.ID, Value: v})
	}
	return r
}
