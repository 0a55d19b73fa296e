package coap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// download turns the reply into the response, after fetching by Block2 what is
// missing of its body (RFC 7959, section 2.4).
func (t *transfer) download(ctx context.Context, reply *packet) (*Response, error) {
	m := &reply.msg
	resp := newResponse(m)
	b, blocks, err := findBlock(m.options, Block2)
	if err != nil {
		reply.free()
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if !isSuccess(m.code) || m.code == Valid || !blocks && t.r.Into == nil {
		resp.Payload = append([]byte(nil), m.payload...)
		resp.Size = int64(len(resp.Payload))
		reply.free()
		if resp.Size > t.limit() && isSuccess(resp.Code) {
			return nil, ErrTooLarge
		}
		return resp, nil
	}
	total := int64(-1)
	if v, ok := Uint(m.options, Size2); ok {
		total = int64(v)
	}
	resp.Size = total
	if !blocks {
		return t.takeWhole(reply, resp)
	}
	payload := append([]byte(nil), m.payload...)
	reply.free()
	return t.collect(ctx, resp, b, payload)
}

// takeWhole hands over a body that came in one message without Block2.
func (t *transfer) takeWhole(reply *packet, resp *Response) (*Response, error) {
	defer reply.free()
	if len(t.r.ETag) > 0 && !bytes.Equal(t.r.ETag, resp.ETag) {
		return nil, ErrETagChanged
	}
	payload := reply.msg.payload
	if t.r.Offset > int64(len(payload)) {
		return nil, fmt.Errorf("%w: body ends before %d", ErrProtocol, t.r.Offset)
	}
	resp.Size = int64(len(payload))
	t.begun(resp)
	if _, err := t.r.Into.Write(payload[t.r.Offset:]); err != nil {
		return nil, err
	}
	t.received(resp.Size, resp.Size)
	return resp, nil
}

// maxAstray is how often in a row a wrong block may come, or the whole body
// begin anew.
const maxAstray = 3

// collect takes the blocks of a body, of which the first is there, and asks
// for the others. resp.Size is the announced size or -1.
func (t *transfer) collect(ctx context.Context, resp *Response, b block, payload []byte) (*Response, error) {
	offset, astray, restarts := t.r.Offset, 0, 0
	t.done, t.etag = offset, resp.ETag
	if len(t.r.ETag) > 0 && !bytes.Equal(t.r.ETag, resp.ETag) {
		return nil, ErrETagChanged
	}
	if resp.Size > t.limit() {
		return nil, ErrTooLarge
	}
	t.begun(resp)
	t.patience.progress()
	t.szx = min(t.szx, b.szx)
	for {
		switch {
		case b.offset() != offset:
			// Not the block that was asked for: the peer counts in another
			// size, or is confused.
			if astray++; astray > maxAstray {
				return nil, fmt.Errorf("%w: asked for the block at %d, got the one at %d", ErrProtocol, offset, b.offset())
			}
		case b.more && (b.szx != bert && len(payload) != b.size() || len(payload) == 0 || len(payload)%b.size() != 0),
			!b.more && b.szx != bert && len(payload) > b.size():
			return nil, fmt.Errorf("%w: block of %d bytes with %d", ErrProtocol, b.size(), len(payload))
		default:
			astray = 0
			offset += int64(len(payload))
			if offset > t.limit() {
				return nil, ErrTooLarge
			}
			if err := t.take(resp, payload); err != nil {
				return nil, err
			}
			t.done = offset
			t.received(offset, resp.Size)
			if !b.more {
				resp.Size = offset
				return resp, nil
			}
		}
		t.szx = min(t.szx, b.szx)
		szx, ok := alignedSZX(offset, t.szx)
		if !ok {
			return nil, fmt.Errorf("%w: no block number for %d in blocks of %d", ErrTooLarge, offset, block{szx: szx}.size())
		}
		reply, err := t.fetch(ctx, offset, szx)
		if err != nil {
			return nil, err
		}
		m := &reply.msg
		if !isSuccess(m.code) {
			refusal := newResponse(m)
			refusal.Payload = append([]byte(nil), m.payload...)
			refusal.Size = offset
			reply.free()
			return refusal, nil
		}
		var blocks bool
		if b, blocks, err = findBlock(m.options, Block2); err != nil || !blocks {
			reply.free()
			return nil, fmt.Errorf("%w: response without block", ErrProtocol)
		}
		if etag, _ := Bytes(m.options, ETag); !bytes.Equal(etag, resp.ETag) {
			reply.free()
			if t.r.Into != nil || t.r.Offset != 0 || restarts == maxAstray {
				return nil, ErrETagChanged
			}
			restarts++
			if reply, err = t.fetch(ctx, 0, t.szx); err != nil {
				return nil, err
			}
			m = &reply.msg
			if b, blocks, err = findBlock(m.options, Block2); err != nil || !blocks || !isSuccess(m.code) {
				return t.download(ctx, reply)
			}
			resp, offset = newResponse(m), 0
			t.etag = resp.ETag
			resp.Size = -1
		}
		payload = append(payload[:0], m.payload...)
		reply.free()
	}
}

// fetch asks for the block at offset, with patience.
func (t *transfer) fetch(ctx context.Context, offset int64, szx uint8) (*packet, error) {
	b := block{szx: szx}
	b.num = uint32(offset / int64(b.size()))
	t.x.observation = nil
	t.x.confirm = true
	var payload []byte
	if t.r.Code == FETCH && t.size <= t.a.maxPayload(t.szx) {
		var err error
		if payload, err = t.block(0, t.size); err != nil {
			return nil, err
		}
	}
	for start := time.Now(); ; {
		t.x.token = t.e.random.token()
		reply, err := t.send(ctx, t.rest, payload, nil, &b)
		if errors.Is(err, ErrTimeout) && t.x.acked && t.safe() && time.Since(start) < t.stall() {
			continue // acknowledged, and then the response was lost
		}
		if err != nil {
			return nil, err
		}
		if !isBusy(reply.msg.code) {
			t.patience.progress()
			return reply, nil
		}
		total := t.patience.total
		if total == 0 {
			total = blockPatience
		}
		again, err := t.patience.refused(ctx, &reply.msg, total)
		if err != nil {
			reply.free()
			return nil, err
		}
		if !again {
			return reply, nil
		}
		reply.free()
	}
}

// take adds to the body.
func (t *transfer) take(resp *Response, p []byte) error {
	if t.r.Into != nil {
		_, err := t.r.Into.Write(p)
		return err
	}
	resp.Payload = append(resp.Payload, p...)
	return nil
}

// limit is that of the response's body.
func (t *transfer) limit() int64 {
	switch {
	case t.r.MaxBody > 0:
		return t.r.MaxBody
	case t.r.Into != nil:
		return reach(maxSZX)
	}
	return int64(t.e.cfg.MaxBody)
}

// begun reports what is going to be downloaded.
func (t *transfer) begun(resp *Response) {
	if t.r.Begun != nil && t.r.Into != nil {
		t.r.Begun(bytes.Clone(resp.ETag), resp.Size)
	}
}

// received reports the progress of a download, unless there was an upload to
// report.
func (t *transfer) received(done, total int64) {
	if t.r.Progress != nil && t.size <= t.a.maxPayload(t.szx) {
		t.r.Progress(done, total)
	}
}
