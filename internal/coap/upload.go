package coap

import (
	"context"
	"fmt"
)

// upload sends the request with its body, by Block1 if need be (RFC 7959,
// section 2.5), and returns the final response.
func (t *transfer) upload(ctx context.Context) (*packet, error) {
	if t.size <= t.a.maxPayload(t.szx) && t.r.BodyOffset == 0 {
		reply, err := t.uploadWhole(ctx)
		if err != nil {
			return nil, err
		}
		b, ok, _ := findBlock(reply.msg.options, Block1)
		if reply.msg.code != RequestEntityTooLarge || !ok || int64(b.size()) >= t.size {
			return reply, nil
		}
		reply.free() // a hint to use smaller blocks
		t.szx = min(t.szx, b.szx)
	}
	return t.uploadBlocks(ctx)
}

// uploadWhole sends a request that fits one message.
func (t *transfer) uploadWhole(ctx context.Context) (*packet, error) {
	payload, err := t.block(0, t.size)
	if err != nil {
		return nil, err
	}
	var b2 *block
	if t.r.Into != nil || t.r.BlockSize != 0 || t.r.Offset > 0 {
		szx, ok := alignedSZX(t.r.Offset, t.szx)
		if !ok {
			return nil, ErrTooLarge
		}
		b := block{szx: szx}
		b.num = uint32(t.r.Offset / int64(b.size()))
		b2 = &b
	}
	for {
		reply, err := t.send(ctx, t.first, payload, nil, b2)
		if err != nil {
			return nil, err
		}
		if isBusy(reply.msg.code) && t.patience.total > 0 {
			again, err := t.patience.refused(ctx, &reply.msg, t.patience.total)
			if err != nil {
				reply.free()
				return nil, err
			}
			if again {
				reply.free()
				continue
			}
		}
		return reply, nil
	}
}

func (t *transfer) uploadBlocks(ctx context.Context) (*packet, error) {
	restarts := t.r.Restarts
	if restarts == 0 {
		restarts = 3
	}
	szx, ok := alignedSZX(t.r.BodyOffset, t.szx)
	if !ok || t.r.BodyOffset > t.size {
		return nil, fmt.Errorf("%w: cannot go on at %d", ErrTooLarge, t.r.BodyOffset)
	}
	t.szx, t.done = szx, t.r.BodyOffset
	t.x.confirm = true
	for {
		reply, next, err := t.uploadBlock(ctx)
		if err != nil {
			return nil, err
		}
		switch next {
		case forward:
			reply.free()
			t.patience.progress()
			continue
		case again:
			reply.free()
			continue
		case restart:
			if restarts <= 0 {
				return reply, nil
			}
			restarts--
			reply.free()
			t.done = 0
			t.x.token = t.e.random.token()
			continue
		}
		return reply, nil
	}
}

// step is what follows from the response to a block.
type step int

const (
	finish step = iota
	forward
	again
	restart
)

// uploadBlock sends the block at t.done.
func (t *transfer) uploadBlock(ctx context.Context) (*packet, step, error) {
	b := block{szx: t.szx}
	if t.size > reach(b.szx) {
		return nil, finish, fmt.Errorf("%w: %d bytes in blocks of %d", ErrTooLarge, t.size, b.size())
	}
	offset := t.done
	b.num = uint32(offset / int64(b.size()))
	n := min(t.a.maxPayload(b.szx), t.size-offset)
	b.more = offset+n < t.size
	payload, err := t.block(offset, n)
	if err != nil {
		return nil, finish, err
	}
	t.x.block1, t.x.hasBlock1 = b, true
	reply, err := t.send(ctx, t.first, payload, &b, nil)
	t.x.hasBlock1 = false
	if err != nil {
		return nil, finish, err
	}
	m := &reply.msg
	got, echoed, err := findBlock(m.options, Block1)
	if err != nil {
		reply.free()
		return nil, finish, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	smaller := echoed && got.szx < b.szx
	switch {
	case isSuccess(m.code) && b.more:
		// Also 2.04 with M=0, which says that the peer acts on each block, goes
		// on.
		t.done = offset + n
		if smaller {
			t.szx = got.szx // its number counts from the bytes that were sent
		}
		t.progress()
		return reply, forward, nil
	case m.code == Continue:
		reply.free()
		return nil, finish, fmt.Errorf("%w: 2.31 to the last block", ErrProtocol)
	case isSuccess(m.code):
		t.done = t.size
		t.progress()
	case m.code == RequestEntityTooLarge && smaller:
		t.szx, t.done = got.szx, 0
		return reply, again, nil
	case m.code == RequestEntityIncomplete:
		return reply, restart, nil
	case isBusy(m.code):
		total := t.patience.total
		if total == 0 {
			total = blockPatience
		}
		ok, err := t.patience.refused(ctx, m, total)
		if err != nil {
			reply.free()
			return nil, finish, err
		}
		if ok {
			return reply, again, nil
		}
	}
	return reply, finish, nil
}

func (t *transfer) progress() {
	if t.r.Progress != nil {
		t.r.Progress(t.done, t.size)
	}
}
