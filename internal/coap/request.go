package coap

import (
	"io"
	"time"
)

// Request is a request to a peer, for [Endpoint.Do], [Endpoint.Go] and [Endpoint.Observe], which do
// not change it and keep nothing of it once it has ended. Its functions are called one at a time,
// by Do and Observe in the goroutine of their caller, else in goroutines of the endpoint.
type Request struct {
	Code Code
	// Path and Queries are the segments, unescaped, each at most 255 bytes.
	Path    []string
	Queries []string
	// ContentFormat describes the body; Accept the wish for the response.
	ContentFormat, Accept Format
	// Options are further options, sorted by ID; those with a field here, and the block options,
	// are added by the endpoint.
	Options Options

	// Payload is the body, unless Body is set.
	Payload []byte
	// Body is read at each offset in [0, Size) as it is needed, possibly more than once. Bodies
	// larger than a block go by Block1.
	Body io.ReaderAt
	Size int64

	// BodyOffset is where an upload goes on: a multiple of 16. The peer holds the bytes before from
	// an earlier attempt (see ExchangeError.Done); if it does not, it answers 4.08 and the upload
	// begins again.
	BodyOffset int64

	// NonConfirmable sends a request that fits one message as NON: once, and unacknowledged.
	NonConfirmable bool
	// BlockSize is the preferred size of blocks, both ways: 16 to 1024. Default: that of the
	// endpoint. The peer may lower it. A larger one, up to 16 KiB, is how much of the body goes
	// into one message on a stream whose peer takes several blocks of 1024 there (BERT, RFC 8323,
	// section 6).
	BlockSize int
	// Idle limits the wait for the response to each message once it has been acknowledged, and the
	// whole wait on a stream. Default 93 s (MAX_TRANSMIT_WAIT).
	Idle time.Duration
	// Stall is how long a block-wise transfer that has begun may go without progress:
	// unacknowledged blocks are sent again, in rounds of retransmissions, until then, and blocks of
	// a GET or FETCH are asked for again that were acknowledged and not sent within Idle. Default
	// 300 s; negative is one round. When it is set it holds for the first message too, which else
	// has one round.
	Stall time.Duration
	// SkipTaken is for a peer that takes the blocks of an upload in their order and no other, and
	// has no cache of duplicates: it refuses a block that it has, because the acknowledgement was
	// lost, with 5.03. When the peer so refuses a retransmitted block, the endpoint sends the next
	// one: a peer that lacks the block before refuses that too. Anything but its acceptance ends
	// the upload. A peer that accepts gaps would store a hole.
	SkipTaken bool
	// Restarts limits how often an upload begins again after 4.08. Default 3; negative is never.
	Restarts int
	// BusyRetry limits the time through which the request is sent again after 5.03 or 4.29, as
	// often as the answer's Max-Age says. Default: 320 s for the blocks of a body that is under
	// way, else not at all.
	BusyRetry time.Duration
	// Notice is called, in order, with what happens to the request while it waits, perhaps before
	// Go has returned, and never after the end. It is called with no lock held, and must not block.
	Notice func(Notice)
	// Progress is called with the bytes done, and the total or -1, after each block of a body (of
	// the upload, else of the download).
	Progress func(done, total int64)

	// Begun is called once before the first byte of a download goes to Into, with its entity-tag,
	// nil if it has none, and the total or -1. The slice is the callee's.
	Begun func(etag []byte, total int64)
	// Into receives the body of a success response in order, in place of Response.Payload. An error
	// of it ends the transfer.
	Into io.Writer
	// Offset is where the download begins: a multiple of 16. The bytes before are not asked for.
	// The endpoint lowers the block size where it must.
	Offset int64
	// ETag is the entity-tag that the download must have, when not empty: with another one Do fails
	// with ErrETagChanged before anything is written.
	ETag []byte
	// Total is the size of the whole that the download must have, if an answer with an earlier part
	// has announced it; 0 if not.
	Total int64
	// MaxBody limits the body of the response. Default: that of the endpoint; with Into there is
	// none but the reach of block numbers.
	MaxBody int64
}

// Response is a response: of a peer, then Payload is the caller's own; or of a [Handler].
type Response struct {
	Code Code
	// ContentFormat describes the body.
	ContentFormat Format
	// ETag is the entity-tag: up to 8 bytes. A handler's response that needs several blocks without
	// one is given one when it comes from Payload.
	ETag []byte
	// Options are the further options, sorted by ID: all but Content-Format, ETag, Observe and
	// those of block-wise transfer.
	Options Options

	// Payload is the body, unless Body is set.
	Payload []byte
	// Body is the body of a handler's response, read at each offset in [0, Size) as the peer asks
	// for it. The endpoint keeps Body until the peer no longer asks, and serves the blocks without
	// the handler. If Body implements io.Closer, it is closed then.
	Body io.ReaderAt
	// Size is that of Body. Of a peer's response it is where the body ended; of one that came in
	// the middle of a body, how far that was taken.
	Size int64
	// Limit, of a peer's response, is Size1 of a 4.13: the largest body that the peer takes, in
	// bytes; -1 if it did not say.
	Limit int64
	// Progress is called after each block of Body or Payload that was sent by Block2, with its end
	// and the size of the body. It must be quick.
	Progress func(end, size int64)

	// After, when not nil, is called once, when the response has been sent; a separate response
	// when it was acknowledged or given up.
	After func()
	// Confirm, when not nil, is called once, with nil when the peer has shown that it got the
	// response. Over UDP the response is sent separately and confirmably for that: a peer at the
	// address that did not ask rejects it ([ErrReset]), and an attacker elsewhere does not see the
	// message that needs an acknowledgement. Other transports have proven the address before.
	Confirm func(error)
	// Soon says of a response that the same request may do better in 2 s. In datagrams it is not
	// sent then, if the request was not acknowledged, as the peer asks again by itself.
	Soon bool
}

// Sink is where the body of an incoming request goes as its blocks arrive.
type Sink interface {
	// Write takes the next bytes of the body, and must not keep p. An error ends the transfer: a
	// *[StatusError] with its code, ErrTooLarge with 4.13, any other with 5.00.
	io.Writer
	// Abort is called instead of the handler when the body will not be completed: the peer went
	// silent, began again, or Write failed.
	Abort(err error)
}

// announced is the size of the body that a response announces, or -1. Some peers send 0 when they
// do not know it.
func announced(m *wireMessage) int64 {
	if v, ok := Uint(m.options, Size2); ok && v > 0 {
		return int64(v)
	}
	return -1
}

// newResponse copies a response, without its payload. Its Size is the announced one.
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
