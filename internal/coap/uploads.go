package coap

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errSuperseded = errors.New("coap: another transfer replaced this one")
	errNoMemory   = fmt.Errorf("%w: no memory for the body", ErrBusy)
	errRestarted  = errors.New("coap: peer has begun the transfer again")
)

// minUploadIdle is how long an upload must have been idle before it is dropped for a new one when
// there are too many.
const minUploadIdle = 10 * time.Second

// proceed requests the next block.
var proceed = &Response{Code: Continue}

// upload is a request body of a peer that arrives by Block1.
type upload struct {
	e      *Endpoint
	from   *origin
	group  group
	proven bool

	ending atomic.Pointer[error] // why it was dropped

	mu     sync.Mutex
	over   bool
	next   int64 // bytes received
	last   int64 // offset of the last block
	first  int64 // bytes in the first block
	format Format
	sink   Sink
	body   []byte // without sink
}

// dropped calls [Sink.Abort], unless the body was completed. It does not wait while the sink writes
// a block: then the writing goroutine ends the upload.
func (u *upload) dropped(err error) {
	u.ending.CompareAndSwap(nil, &err)
	u.settle()
}

// unlock unlocks u.mu, and ends the upload if it was dropped in the meantime.
func (u *upload) unlock() {
	u.mu.Unlock()
	if u.ending.Load() != nil {
		u.settle()
	}
}

// settle ends a dropped upload, unless another goroutine has it locked.
func (u *upload) settle() {
	if !u.mu.TryLock() {
		return
	}
	defer u.mu.Unlock()
	if !u.over {
		u.close()
		u.abort(*u.ending.Load())
	}
}

// origin returns nil for a peer with an identity, whose upload outlives its socket.
func (u *upload) origin() *origin {
	if u.proven {
		return nil
	}
	return u.from
}

// abort calls [Sink.Abort]: the body will not be completed.
func (u *upload) abort(err error) {
	if u.sink != nil {
		_ = u.e.callback(u.origin(), "Sink.Abort", func() { u.sink.Abort(err) })
	}
}

// advanced reports whether the upload is past its first block. u.mu is held.
func (u *upload) advanced() bool { return u.next > u.first }

// close returns the upload's share of memory. u.mu is held.
func (u *upload) close() {
	u.over = true
	u.e.uploadBytes.give(u.group, int64(cap(u.body)))
}

func (in *incoming) uploadKey() transferKey {
	target := in.e.targetOf(&in.req, URIHost, URIPort, URIPath, URIQuery, RequestTag)
	return transferKey{in.a.owner(), target}
}

// receiveBlock takes a block of a request body (RFC 7959, section 2.5). If that completes the body,
// in.req has it; else receiveBlock returns the response.
func (in *incoming) receiveBlock() (resp *Response, complete bool) {
	e, b, n := in.e, in.block1, len(in.req.Payload)
	size := b.size()
	switch {
	case b.szx == bert && b.more && (n == 0 || n%size != 0),
		b.szx != bert && b.more && n != size,
		b.szx != bert && n > size:
		return diagnose(BadRequest, "block of wrong size"), false
	}
	key := in.uploadKey()
	u, found := e.uploads.find(key, nil)
	if b.num == 0 {
		if found && e.uploads.take(key, u) {
			u.dropped(errRestarted)
		}
		if !b.more {
			return nil, true
		}
		if u, resp = in.beginUpload(key); resp != nil {
			return resp, false
		}
	} else if !found {
		return diagnose(RequestEntityIncomplete, "no transfer that this block goes on with"), false
	}

	u.mu.Lock()
	defer u.unlock()
	switch {
	case u.over:
		return diagnose(RequestEntityIncomplete, "transfer has ended"), false
	case b.num > 0 && u.format != in.req.ContentFormat():
		return diagnose(RequestEntityIncomplete, "content format changed"), false
	case b.more && b.offset() == u.last && u.next > u.last:
		e.uploads.touch(key, e.config.UploadIdle, e.timers.now())
		return proceed, false // a repetition
	case b.num > 0 && b.more && u.next == u.first && b.offset()+int64(n) <= u.first:
		// go-coap, when asked for smaller blocks, continues with number 1 of them, which it has
		// already sent. Accept these blocks again.
		e.uploads.touch(key, e.config.UploadIdle, e.timers.now())
		return proceed, false
	case b.offset() != u.next:
		return diagnose(RequestEntityIncomplete, "block out of sequence"), false
	}
	switch err := u.write(in.req.Payload); {
	case err == nil:
	case err == errNoMemory && !in.a.stream():
		e.uploads.makeRoom(u.group, e.timers.now(), e.uploadBytes)
		in.unserved = true // the received bytes are kept, and the block comes again
		return statusOf(err, 0), false
	default:
		if e.uploads.take(key, u) {
			u.close()
			u.abort(err)
		}
		return statusOf(err, e.config.MaxBody), false
	}
	u.last, u.next = u.next, u.next+int64(n)
	if b.num == 0 {
		u.first = u.next
	}
	if b.more {
		e.uploads.touch(key, e.config.UploadIdle, e.timers.now())
		return proceed, false
	}
	if !e.uploads.take(key, u) {
		return diagnose(RequestEntityIncomplete, "transfer has ended"), false
	}
	u.close()
	in.req.Payload, in.req.Sink, in.req.Size = u.body, u.sink, u.next
	return nil, true
}

// beginUpload chooses the sink of a body, and enters the upload.
func (in *incoming) beginUpload(key transferKey) (*upload, *Response) {
	e := in.e
	u := &upload{e: e, from: in.a.origin, group: in.group, proven: !in.a.proven.IsZero(), format: in.req.ContentFormat()}
	announced := int64(-1)
	if v, ok := Uint(in.req.Options, Size1); ok {
		announced = int64(v)
	}
	if e.config.Sinks != nil {
		r := in.req
		r.Payload, r.Size = nil, announced
		var sink Sink
		var refusal *Response
		if err := e.callback(in.a.origin, "Sinks", func() { sink, refusal = e.config.Sinks(&r) }); err != nil {
			return nil, statusOf(err, 0)
		}
		if refusal != nil {
			return nil, refusal
		}
		u.sink = sink
	}
	if u.sink == nil && announced > int64(e.config.MaxBody) {
		return nil, statusOf(ErrTooLarge, e.config.MaxBody)
	}
	if !e.uploads.put(key, in.a, u, e.config.UploadIdle, e.timers.now()) {
		u.abort(ErrBusy)
		in.unserved = true
		return nil, statusOf(ErrBusy, 0)
	}
	return u, nil
}

// write appends to the body. u.mu is held.
func (u *upload) write(p []byte) error {
	if u.sink != nil {
		return u.writeSink(p)
	}
	e := u.e
	if len(u.body)+len(p) > e.config.MaxBody {
		return ErrTooLarge
	}
	if len(u.body)+len(p) > cap(u.body) {
		grown := make([]byte, len(u.body), min(max(2*cap(u.body), 4*len(p)), e.config.MaxBody))
		if !e.uploadBytes.take(u.group, int64(cap(grown)-cap(u.body))) {
			return errNoMemory
		}
		copy(grown, u.body)
		u.body = grown
	}
	u.body = append(u.body, p...)
	return nil
}

func (u *upload) writeSink(p []byte) (err error) {
	if !u.e.gate.enter(u.from) {
		return ErrClosed
	}
	defer u.e.caught(u.from, "Sink.Write", &err)
	return writeAll(u.sink, p)
}

// statusOf returns the response to an error.
func statusOf(err error, limit int) *Response {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return diagnose(status.Code, status.Diagnostic)
	}
	switch {
	case errors.Is(err, ErrTooLarge):
		return &Response{
			Code:    RequestEntityTooLarge,
			Options: AppendUint(nil, Size1, uint32(limit)),
		}
	case errors.Is(err, ErrBusy):
		return &Response{Code: ServiceUnavailable, Options: AppendUint(nil, MaxAge, refuseMaxAge)}
	}
	return &Response{Code: InternalServerError}
}
