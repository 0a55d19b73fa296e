package coap

import (
	"bytes"
	"fmt"
	"time"
)

// download makes the response of the reply. First it fetches the missing part of the body by Block2
// (RFC 7959, section 2.4).
func (t *transfer) download(reply *packet) {
	defer reply.free()
	m := &reply.msg
	resp := newResponse(m)
	b, blocks, err := findBlock(m.options, Block2)
	switch {
	case err != nil:
		t.end(nil, fmt.Errorf("%w: %w", ErrProtocol, err))
		return
	case isSuccess(m.code) && t.r.Into != nil && m.code != Content:
		t.end(nil, fmt.Errorf("%w: answer %v to a download", ErrProtocol, m.code))
		return
	case blocks && isSuccess(m.code) && m.code != Valid:
		t.collect(resp, b, m.payload)
		return
	case isSuccess(m.code):
		err = t.takeWhole(resp, m.payload)
	default:
		err = t.keepWhole(resp, m.payload)
	}
	if err != nil {
		t.end(nil, err)
	} else {
		t.end(resp, nil)
	}
}

// keepWhole stores a body that came in one message with the response.
func (t *transfer) keepWhole(resp *Response, payload []byte) error {
	resp.Payload = append([]byte(nil), payload...)
	resp.Size = int64(len(payload))
	if resp.Size > t.limit() && isSuccess(resp.Code) {
		return ErrTooLarge
	}
	return nil
}

// takeWhole delivers the body of a success that came in one message without Block2.
func (t *transfer) takeWhole(resp *Response, payload []byte) error {
	switch {
	case resp.Code == Valid:
		return t.keepWhole(resp, payload)
	case len(t.r.ETag) > 0 && !bytes.Equal(t.r.ETag, resp.ETag):
		return ErrETagChanged
	case t.r.Offset > 0:
		// The payload may be any part of the body.
		return fmt.Errorf("%w: answer without block to a request for one", ErrETagChanged)
	}
	if err := t.expect(resp, int64(len(payload)), true); err != nil {
		return err
	}
	if t.r.Into == nil {
		return t.keepWhole(resp, payload)
	}
	resp.Size = int64(len(payload))
	t.begun(resp)
	if err := t.into(payload); err != nil {
		return err
	}
	t.received(resp.Size, resp.Size)
	return nil
}

// expect checks that a body which has arrived up to end, and continues unless last, agrees with the
// size that was announced, now or in an earlier part.
func (t *transfer) expect(resp *Response, end int64, last bool) error {
	if total := t.r.Total; total > 0 {
		if resp.Size >= 0 && resp.Size != total {
			return fmt.Errorf("%w: %d bytes, and not %d", ErrETagChanged, resp.Size, total)
		}
		resp.Size = total
	}
	if size := resp.Size; size >= 0 && (end > size || last && end < size) {
		return fmt.Errorf("%w: the body of %d bytes has %d", ErrProtocol, size, end)
	}
	return nil
}

// collection is the body of a response while its blocks arrive.
type collection struct {
	resp     *Response // Size is the announced size, or -1
	offset   int64     // of the next block
	szx      uint8     // of the requested block
	at       int64     // its offset
	since    time.Duration
	then     func(*transfer, *packet)
	astray   int
	restarts int
}

// maxAstray is how many wrong blocks in a row, or changes of the body, a download survives.
const maxAstray = 3

// collect takes the first block of a body, and fetches the others.
func (t *transfer) collect(resp *Response, b block, payload []byte) {
	t.down = &collection{resp: resp, offset: t.r.Offset}
	t.done = t.r.Offset
	if len(t.r.ETag) > 0 && !bytes.Equal(t.r.ETag, resp.ETag) {
		t.end(nil, ErrETagChanged)
		return
	}
	if err := t.expect(resp, 0, false); err != nil {
		t.end(nil, err)
		return
	}
	if resp.Size > t.limit() {
		t.end(nil, ErrTooLarge)
		return
	}
	t.begun(resp)
	t.busy.progress()
	t.szx = min(t.szx, b.szx)
	t.takeBlock(b, payload)
}

// takeBlock takes a block, and fetches the next one.
func (t *transfer) takeBlock(b block, payload []byte) {
	d := t.down
	switch {
	case b.offset() != d.offset:
		// Not the block that was requested: the peer may count in another size.
		if d.astray++; d.astray > maxAstray {
			t.end(nil, fmt.Errorf("%w: asked for the block at %d, got the one at %d", ErrProtocol, d.offset, b.offset()))
			return
		}
	case b.more && (b.szx != bert && len(payload) != b.size() || len(payload) == 0 || len(payload)%b.size() != 0),
		!b.more && b.szx != bert && len(payload) > b.size():
		t.end(nil, fmt.Errorf("%w: block of %d bytes with %d", ErrProtocol, b.size(), len(payload)))
		return
	default:
		d.astray = 0
		if err := t.expect(d.resp, d.offset+int64(len(payload)), !b.more); err != nil {
			t.end(nil, err)
			return
		}
		d.offset += int64(len(payload))
		if d.offset > t.limit() {
			t.end(nil, ErrTooLarge)
			return
		}
		if err := t.take(payload); err != nil {
			t.end(nil, err)
			return
		}
		t.done = d.offset
		t.received(d.offset, d.resp.Size)
		if !b.more {
			d.resp.Size = d.offset
			t.end(d.resp, nil)
			return
		}
	}
	t.szx = min(t.szx, b.szx)
	szx, ok := alignedSZX(d.offset, t.szx)
	if !ok {
		t.end(nil, fmt.Errorf("%w: no block number for %d in blocks of %d", ErrTooLarge, d.offset, block{szx: szx}.size()))
		return
	}
	t.fetch(d.offset, szx, (*transfer).blockReceived)
}

// blockReceived takes the response to a request for a block.
func (t *transfer) blockReceived(reply *packet) {
	defer reply.free()
	m, d := &reply.msg, t.down
	if !isSuccess(m.code) {
		refusal := newResponse(m)
		refusal.Payload = append([]byte(nil), m.payload...)
		refusal.Size = d.offset
		t.end(refusal, nil)
		return
	}
	b, blocks, err := findBlock(m.options, Block2)
	if err != nil || !blocks || m.code != d.resp.Code {
		t.end(nil, fmt.Errorf("%w: answer %v to a request for a block, with one: %v", ErrProtocol, m.code, blocks))
		return
	}
	if d.resp.Size < 0 {
		d.resp.Size = announced(m)
	}
	if etag, _ := Bytes(m.options, ETag); bytes.Equal(etag, d.resp.ETag) {
		t.takeBlock(b, m.payload)
		return
	}
	if t.r.Into != nil || t.r.Offset != 0 || d.restarts == maxAstray {
		t.end(nil, ErrETagChanged)
		return
	}
	d.restarts++
	t.fetch(0, t.szx, (*transfer).restarted)
}

// restarted takes the first block of a body that has changed.
func (t *transfer) restarted(reply *packet) {
	m, d := &reply.msg, t.down
	b, blocks, err := findBlock(m.options, Block2)
	if err != nil || !blocks || !isSuccess(m.code) {
		t.download(reply)
		return
	}
	defer reply.free()
	if m.code != d.resp.Code {
		t.end(nil, fmt.Errorf("%w: answer %v after %v", ErrProtocol, m.code, d.resp.Code))
		return
	}
	d.resp, d.offset = newResponse(m), 0
	t.takeBlock(b, m.payload)
}

// fetch requests the block at offset, again after 5.03. then gets any other response.
func (t *transfer) fetch(offset int64, szx uint8, then func(*transfer, *packet)) {
	d := t.down
	d.at, d.szx, d.since, d.then = offset, szx, t.c.e.timers.now(), then
	t.x.observation = nil
	t.x.confirm = true
	t.ask(nil)
}

// ask requests the block.
func (t *transfer) ask(*packet) {
	t.x.token = t.c.e.random.token()
	m := outgoing{further: true, block2: blockAt(t.down.at, t.down.szx), hasBlock2: true}
	if t.r.Code == FETCH && t.size <= t.maxPayload() {
		m.n = t.size
	}
	t.send(m, (*transfer).fetched)
}

// asksAgain reports whether to request a block once more after its response did not come.
func (t *transfer) asksAgain() bool {
	return t.down != nil && t.safe() && t.c.e.timers.now()-t.down.since < t.stall()
}

func (t *transfer) fetched(reply *packet) {
	if !isBusy(reply.msg.code) {
		t.busy.progress()
	} else if wait, ok := t.refused(&reply.msg, t.busyLimit()); ok {
		reply.free()
		t.rest(wait, (*transfer).ask)
		return
	}
	t.down.then(t, reply)
}

// take appends p to the body.
func (t *transfer) take(p []byte) error {
	if t.r.Into != nil {
		return t.into(p)
	}
	resp := t.down.resp
	resp.Payload = append(resp.Payload, p...)
	return nil
}

func (t *transfer) into(p []byte) error {
	if t.c.late() {
		return ErrClosed
	}
	return writeAll(t.r.Into, p)
}

// limit returns the largest body to accept.
func (t *transfer) limit() int64 {
	switch {
	case t.r.MaxBody > 0:
		return t.r.MaxBody
	case t.r.Into != nil:
		return reach(maxSZX)
	}
	return int64(t.c.e.config.MaxBody)
}

// begun calls Request.Begun.
func (t *transfer) begun(resp *Response) {
	if t.r.Begun != nil && !t.c.late() && t.r.Into != nil {
		t.r.Begun(bytes.Clone(resp.ETag), resp.Size)
	}
}

// received reports the progress of a download, unless there was an upload to report.
func (t *transfer) received(done, total int64) {
	if t.r.Progress != nil && !t.c.late() && t.size <= t.maxPayload() {
		t.r.Progress(done, total)
	}
}
