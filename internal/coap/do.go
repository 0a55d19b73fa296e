package coap

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// Do sends a request and returns the response, whatever its code. The bodies
// of both go block-wise where they must. Errors are *[ExchangeError].
func (e *Endpoint) Do(ctx context.Context, p Peer, r *Request) (*Response, error) {
	return e.do(ctx, p, r, nil)
}

func (e *Endpoint) do(ctx context.Context, p Peer, r *Request, o *Observation) (*Response, error) {
	if e.isClosed() {
		return nil, ErrClosed
	}
	for again := true; ; again = false {
		a, err := e.resolve(p)
		if err != nil {
			return nil, &ExchangeError{Peer: p, Err: err}
		}
		t, err := e.newTransfer(a, r)
		if err != nil {
			return nil, &ExchangeError{Peer: p, Err: err}
		}
		if o != nil {
			t.observe(o, 0)
		}
		resp, err := t.run(ctx)
		if err == nil {
			return resp, nil
		}
		if again && p.Transport == UDP && !t.sent && errors.Is(err, ErrPeerGone) {
			continue // the idle peer was being forgotten
		}
		return nil, t.fail(err)
	}
}

// cancelObservation asks the peer to end o.
func (e *Endpoint) cancelObservation(ctx context.Context, o *Observation) (*Response, error) {
	t, err := e.newTransfer(o.a, &o.req)
	if err != nil {
		return nil, err
	}
	t.observe(o, 1)
	resp, err := t.run(ctx)
	if err != nil {
		return nil, t.fail(err)
	}
	return resp, nil
}

// resume gets the rest of a body whose first block is in first.
func (e *Endpoint) resume(ctx context.Context, a *association, r *Request, first *Response, b block) (*Response, error) {
	t, err := e.newTransfer(a, r)
	if err != nil {
		return nil, err
	}
	defer a.release(t.x.lease)
	payload := first.Payload
	first.Payload = nil
	resp, err := t.collect(ctx, first, b, payload)
	if err != nil {
		return nil, t.fail(err)
	}
	return resp, nil
}

// transfer is a request of ours with all its messages.
type transfer struct {
	e *Endpoint
	a *association
	r *Request
	x exchange

	size   int64   // of the request's body
	szx    uint8   // of blocks, as agreed on
	first  Options // of the first message, but those of blocks
	rest   Options // of the messages that fetch further blocks of the response
	echo   []byte
	work   Options // of the message that is being made
	values []byte  // of the options in work
	data   []byte  // a block of Body

	sent     bool
	acked    bool
	done     int64
	etag     []byte // of the response's body
	patience patience
}

func (e *Endpoint) newTransfer(a *association, r *Request) (*transfer, error) {
	t := &transfer{e: e, a: a, r: r, szx: a.blockSZX(), size: int64(len(r.Payload))}
	if r.Body != nil {
		t.size = r.Size
	}
	if r.BlockSize != 0 {
		t.szx = szxOf(r.BlockSize)
	}
	for _, s := range r.Path {
		if len(s) > 255 {
			return nil, errOptionSize
		}
		t.first = append(t.first, Option{ID: URIPath, Value: []byte(s)})
	}
	for _, s := range r.Queries {
		if len(s) > 255 {
			return nil, errOptionSize
		}
		t.first = append(t.first, Option{ID: URIQuery, Value: []byte(s)})
	}
	for _, o := range r.Options {
		t.first = AppendOption(t.first, o.ID, o.Value)
	}
	if n, ok := r.ContentFormat.Get(); ok {
		t.first = AppendUint(t.first, ContentFormat, uint32(n))
	}
	if n, ok := r.Accept.Get(); ok {
		t.first = AppendUint(t.first, Accept, uint32(n))
	}
	t.szx = a.fittingSZX(t.szx, t.first)
	// What conditions or opens the first message has no place in the ones that
	// fetch the rest of the response (RFC 7959, section 2.4; RFC 7641).
	t.rest = slices.DeleteFunc(slices.Clone(t.first), func(o Option) bool {
		return o.ID == IfMatch || o.ID == IfNoneMatch || o.ID == ETag || o.ID == Observe
	})
	t.x = exchange{
		request:   true,
		confirm:   !r.NonConfirmable,
		token:     e.random.token(),
		idleLimit: r.Idle,
		done:      make(chan struct{}, 1),
	}
	if t.x.idleLimit <= 0 {
		t.x.idleLimit = e.cfg.Transmission.idle()
	}
	t.x.persist = max(r.Stall, 0)
	if r.Exclusive {
		t.x.lease = new(lease)
	}
	t.patience.total = r.Patience
	return t, nil
}

// defaultStall is longer than what a device needs to come back from a
// handover, and gives some 20 chances to a block.
const defaultStall = 300 * time.Second

var errOptionSize = errors.New("coap: path segment or query of more than 255 bytes")

// observe makes the request one that registers or cancels o.
func (t *transfer) observe(o *Observation, v uint32) {
	t.first = AppendUint(t.first, Observe, v)
	t.x.token = o.token
	if v == 0 {
		t.x.observation = o
		o.a = t.a
	}
}

func (t *transfer) run(ctx context.Context) (*Response, error) {
	defer t.a.release(t.x.lease)
	reply, err := t.upload(ctx)
	if err != nil {
		return nil, err
	}
	return t.download(ctx, reply)
}

func (t *transfer) fail(err error) error {
	return &ExchangeError{Peer: t.a.peer, Sent: t.sent, Acknowledged: t.acked, Done: t.done, ETag: t.etag, Err: err}
}

// send sends one message of the transfer, with blocks or without, and returns
// the response. A peer that wants to see our address proven (RFC 9175) is
// given its proof.
func (t *transfer) send(ctx context.Context, base Options, payload []byte, b1, b2 *block) (*packet, error) {
	for again := true; ; again = false {
		reply, err := t.roundTrip(ctx, base, payload, b1, b2)
		if err != nil || reply.msg.code != Unauthorized || !again {
			return reply, err
		}
		v, ok := Bytes(reply.msg.options, Echo)
		if !ok {
			return reply, nil
		}
		t.echo = append([]byte(nil), v...)
		reply.free()
	}
}

func (t *transfer) roundTrip(ctx context.Context, base Options, payload []byte, b1, b2 *block) (*packet, error) {
	t.work, t.values = append(t.work[:0], base...), t.values[:0]
	if b1 != nil {
		t.add(Block1, b1.value())
		if b1.num == 0 && t.size <= 1<<32-1 {
			t.add(Size1, uint32(t.size))
		}
	}
	if b2 != nil {
		t.add(Block2, b2.value())
		if t.r.Into != nil && b2.offset() == t.r.Offset {
			t.add(Size2, 0)
		}
	}
	if t.echo != nil {
		t.work = AppendOption(t.work, Echo, t.echo)
	}
	m := wireMessage{code: t.r.Code, token: t.x.token, options: t.work, payload: payload}
	if !t.x.confirm {
		m.typ = nonConfirmable
	}
	t.x.record = t.a.encode(t.x.record[:0], &m)
	reply, err := t.a.roundTrip(ctx, &t.x)
	t.sent = t.sent || t.x.sent
	t.acked = t.acked || t.x.acked
	if t.acked {
		t.x.persist = t.stall()
	}
	return reply, err
}

// stall is how long the transfer may go without progress once it has begun.
func (t *transfer) stall() time.Duration {
	if t.r.Stall == 0 {
		return defaultStall
	}
	return max(t.r.Stall, 0)
}

// safe reports whether the request may be made again at any time.
func (t *transfer) safe() bool { return t.r.Code == GET || t.r.Code == FETCH }

func (t *transfer) add(id OptionID, v uint32) {
	at := len(t.values)
	t.values = appendUint(t.values, v)
	t.work = AppendOption(t.work, id, t.values[at:len(t.values):len(t.values)])
}

// block returns n bytes of the request's body at offset.
func (t *transfer) block(offset, n int64) ([]byte, error) {
	if t.r.Body == nil {
		return t.r.Payload[offset : offset+n], nil
	}
	t.data = slices.Grow(t.data[:0], int(n))[:n]
	got, err := t.r.Body.ReadAt(t.data, offset)
	if int64(got) < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return t.data, nil
}

// newResponse copies what a caller wants of a response, but the payload.
func newResponse(m *wireMessage) *Response {
	r := &Response{Code: m.code, ContentFormat: formatOf(m.options, ContentFormat)}
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
			if r.ETag == nil && len(v) > 0 && len(v) <= 8 {
				r.ETag = v
			}
			continue
		}
		if r.Options == nil {
			r.Options = make(Options, 0, n)
		}
		r.Options = append(r.Options, Option{ID: o.ID, Value: v})
	}
	return r
}
