package coap

import (
	"bytes"
	"errors"
	"io"
	"slices"
)

// reply sends the response, if resp is not nil.
func (in *incoming) reply(resp *Response) {
	m := &in.p.msg
	acked := in.settle()

	unserved := in.unserved || resp != nil && resp.Soon && !in.hasBlock1 // after Block1 the upload is gone
	if unserved && !acked && !in.a.stream() {
		in.abandonObserver()
		in.a.traceIn(TraceDropped, m, in.p.n)
		in.e.turnAway(in.a, m, in.id)
		return
	}
	if resp == nil || in.unwanted(resp) {
		in.abandonObserver()
		if m.typ == confirmable && !acked && !in.a.stream() {
			in.acknowledge()
		}
		if resp != nil {
			in.a.closeBody(resp)
			in.a.after(resp)
			in.a.confirm(resp, errUnwanted)
		}
		return
	}
	out := in.compose(resp)
	if resp.Confirm != nil && in.a.peer.Transport == UDP {
		if m.typ == confirmable && !acked {
			in.acknowledge()
		}
		in.sendSeparately(&out, resp)
		return
	}
	switch {
	case in.a.stream():
		in.send(&out)
	case m.typ == nonConfirmable:
		out.typ = nonConfirmable
		in.a.mu.Lock()
		out.mid = in.a.nextMID()
		in.a.mu.Unlock()
		in.send(&out)
	case acked:
		in.sendSeparately(&out, resp)
		return
	default:
		out.typ, out.mid = acknowledgement, m.mid
		in.send(&out)
		in.remember()
	}
	in.established()
	in.a.after(resp)
	in.a.confirm(resp, nil)
}

// unwanted reports whether the peer does not want the response (No-Response, RFC 7967).
func (in *incoming) unwanted(resp *Response) bool {
	v, ok := Uint(in.req.Options, NoResponse)
	return ok && v&(1<<(class(resp.Code)-1)) != 0
}

func (a *association) after(resp *Response) {
	if resp.After != nil {
		_ = a.e.callback(a.origin, "After", resp.After)
	}
}

// confirm calls Response.Confirm.
func (a *association) confirm(resp *Response, err error) {
	if resp.Confirm != nil {
		_ = a.e.callback(a.origin, "Confirm", func() { resp.Confirm(err) })
	}
}

var errUnwanted = errors.New("coap: the peer does not want the response")

// closeBody closes the body of a response that is not sent, or no longer sent.
func (a *association) closeBody(resp *Response) {
	if c, ok := resp.Body.(io.Closer); ok {
		_ = a.e.callback(a.origin, "Body.Close", func() { c.Close() })
	}
}

// readBody reads from the body of a response.
func (in *incoming) readBody(resp *Response, p []byte, offset int64) (n int, err error) {
	if !in.e.gate.enter(in.a.origin) {
		return 0, ErrClosed
	}
	defer in.e.caught(in.a.origin, "Body.ReadAt", &err)
	return resp.Body.ReadAt(p, offset)
}

func (in *incoming) progress(resp *Response, end int64) {
	if resp.Progress != nil && in.e.gate.enter(in.a.origin) {
		defer in.e.caught(in.a.origin, "Progress", nil)
		resp.Progress(end, resp.Size)
	}
}

func (in *incoming) send(out *wireMessage) {
	in.out = in.a.encode(in.out[:0], out)
	in.a.write(in.out)
}

// smallReply is the size up to which any reply is remembered. A longer reply to a safe method is
// made again when the request is repeated.
const smallReply = 256

// remember keeps the reply for duplicates of the request.
func (in *incoming) remember() {
	safe := in.req.Code == GET || in.req.Code == FETCH
	if safe && len(in.out) > smallReply {
		in.a.dedup().forget(in.id)
		return
	}
	in.a.dedup().reply(in.id, in.arrived, in.out)
}

// sendSeparately sends the response in a confirmable message after the acknowledgement.
func (in *incoming) sendSeparately(out *wireMessage, resp *Response) {
	out.typ = confirmable
	observer, a := in.observer, in.a
	x := &exchange{confirm: true, urgent: true, idleLimit: in.e.config.Transmission.idle()}
	x.record = in.a.encode(nil, out)
	x.finish = func(err error) {
		if observer != nil {
			observer.e.spawn(a.origin, "answered", func() { observer.answered(err) })
		}
		if resp.After != nil {
			a.e.spawn(a.origin, "After", resp.After)
		}
		if resp.Confirm != nil {
			a.e.spawn(a.origin, "Confirm", func() { resp.Confirm(err) })
		}
	}
	if err := a.submit(x); err != nil {
		in.abandonObserver()
		a.after(resp)
		a.confirm(resp, err)
	}
}

// compose makes the message with the response, or with a block of it.
func (in *incoming) compose(resp *Response) wireMessage {
	in.values = in.values[:0]
	m := &in.p.msg
	out := wireMessage{token: m.token}
	resp = in.validate(resp)
	asked := in.hasBlock2 && isSuccess(resp.Code) && resp.Code != Continue
	if resp.Code != Valid && (resp.Body != nil || asked || int64(len(resp.Payload)) > in.a.maxPayload(in.replySZX())) {
		return in.composeBlock(out, resp)
	}
	in.options = in.describe(in.options[:0], resp)
	out.code, out.payload, out.options = resp.Code, resp.Payload, in.options
	return out
}

// validate replaces a response that the peer already has by 2.03 (RFC 7252, section 5.10.6.2).
func (in *incoming) validate(resp *Response) *Response {
	if len(resp.ETag) == 0 || resp.Code != Content || in.hasBlock2 && in.block2.num > 0 {
		return resp
	}
	for _, o := range in.req.Options {
		if o.ID == ETag && bytes.Equal(o.Value, resp.ETag) {
			in.a.closeBody(resp)
			return &Response{Code: Valid, ETag: resp.ETag}
		}
	}
	return resp
}

// composeBlock makes the message with the requested block of a response.
func (in *incoming) composeBlock(out wireMessage, resp *Response) wireMessage {
	e := in.e
	d, kept := in.serving, true
	switch {
	case d != nil:
		d.refs.Add(1)
	case in.fits(resp):
		kept = false
		d = &download{a: in.a, resp: *resp}
		if resp.Body == nil {
			d.resp.Body, d.resp.Size = bytes.NewReader(resp.Payload), int64(len(resp.Payload))
		}
		d.refs.Store(1)
	default:
		d = e.keep(in.downloadKey(), in.a, resp)
	}
	defer d.free()
	resp = d.response()

	b := block{szx: in.replySZX()}
	var offset int64
	if in.hasBlock2 {
		offset = in.block2.offset()
		b.szx = min(b.szx, in.block2.szx)
	}
	if offset > 0 && offset >= resp.Size || resp.Size > reach(b.szx) {
		out.code, out.payload, out.options = BadRequest, []byte("block out of range"), nil
		return out
	}
	n := min(in.a.maxPayload(b.szx), resp.Size-offset)
	b.num = uint32(offset / int64(b.size()))
	b.more = offset+n < resp.Size
	in.data = slices.Grow(in.data[:0], int(n))[:n]
	if got, err := in.readBody(resp, in.data, offset); int64(got) < n {
		e.log.Warn("coap: cannot read a response body", "path", in.req.Path(), "offset", offset, "error", err)
		out.code, out.payload, out.options = InternalServerError, nil, nil
		return out
	}
	in.options = in.describe(in.options[:0], resp)
	in.options = in.appendUint(in.options, Block2, b.value())
	if _, asked := Bytes(in.req.Options, Size2); offset == 0 || asked {
		in.options = in.appendUint(in.options, Size2, uint32(resp.Size))
	}
	out.code, out.payload, out.options = resp.Code, in.data, in.options
	idle := e.config.DownloadIdle
	if !b.more {
		idle = lastBlockIdle
	}
	if kept {
		if offset > 0 {
			d.more.Store(true)
		}
		e.downloads.touch(in.downloadKey(), idle, e.timers.now())
	}
	in.progress(resp, offset+n)
	return out
}

// replySZX returns the largest block size for a response: BERT only if the peer asked for it.
func (in *incoming) replySZX() uint8 {
	szx := in.a.blockSZX()
	if !in.hasBlock2 || in.block2.szx != bert {
		szx = min(szx, maxSZX)
	}
	return szx
}

// fits reports whether the response fits into one block.
func (in *incoming) fits(resp *Response) bool {
	szx := in.replySZX()
	if in.hasBlock2 {
		szx = min(szx, in.block2.szx)
	}
	return max(resp.Size, int64(len(resp.Payload))) <= in.a.maxPayload(szx)
}

// tooLarge turns a truncated request into its 4.13 response, with a block size to try: at most szx
// and smaller than that of the request, or none.
func (m *wireMessage) tooLarge(szx uint8) {
	b, ok, err := findBlock(m.options, Block1)
	m.typ, m.code, m.payload, m.options = acknowledgement, RequestEntityTooLarge, nil, nil
	if !ok || err != nil || b.szx > szx {
		m.options = AppendUint(nil, Block1, uint32(szx))
	} else if b.szx > 0 {
		m.options = AppendUint(nil, Block1, uint32(b.szx-1))
	}
}

// appendUint is AppendUint with the value in a buffer of in.
func (in *incoming) appendUint(opts Options, id OptionID, v uint32) Options {
	at := len(in.values)
	in.values = appendUint(in.values, v)
	return AppendOption(opts, id, in.values[at:len(in.values):len(in.values)])
}

// describe appends the options that every block of a response has.
func (in *incoming) describe(opts Options, resp *Response) Options {
	opts = append(opts, resp.Options...)
	if len(resp.ETag) > 0 {
		opts = AppendOption(opts, ETag, resp.ETag)
	}
	if in.observer != nil && isSuccess(resp.Code) {
		opts = in.appendUint(opts, Observe, in.observer.number())
	}
	if n, ok := resp.ContentFormat.Get(); ok {
		opts = in.appendUint(opts, ContentFormat, uint32(n))
	}
	if in.hasBlock1 && resp.Code != RequestEntityTooLarge {
		// A 4.13 of ours is about the whole body. A Block1 option would suggest another block size,
		// and some clients follow such hints for ever.
		b := in.block1
		b.more = resp.Code == Continue
		b.szx = min(b.szx, in.a.blockSZX())
		if b.szx != in.block1.szx && b.num > 0 {
			b.szx = in.block1.szx // the first block fixes the size
		}
		opts = in.appendUint(opts, Block1, b.value())
	}
	return opts
}
