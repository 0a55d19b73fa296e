package coap

import "fmt"

// start sends the request with its body, by Block1 if necessary (RFC 7959, section 2.5).
func (t *transfer) start(*packet) {
	if t.size <= t.maxPayload() && t.r.BodyOffset == 0 {
		t.startWhole()
	} else {
		t.startBlocks()
	}
}

// startWhole sends a request that fits one message.
func (t *transfer) startWhole() {
	m := outgoing{n: t.size}
	if t.r.Into != nil || t.r.BlockSize != 0 || t.r.Offset > 0 {
		szx, ok := alignedSZX(t.r.Offset, t.szx)
		if !ok {
			t.end(nil, ErrTooLarge)
			return
		}
		m.block2, m.hasBlock2 = blockAt(t.r.Offset, szx), true
	}
	t.send(m, (*transfer).wholeSent)
}

func (t *transfer) wholeSent(reply *packet) {
	m := &reply.msg
	if isBusy(m.code) && t.busy.total > 0 {
		if wait, ok := t.refused(m, t.busy.total); ok {
			reply.free()
			t.rest(wait, (*transfer).resendWhole)
			return
		}
	}
	if m.code != RequestEntityTooLarge || !t.shrinks(m) {
		t.download(reply)
		return
	}
	reply.free()
	t.startBlocks()
}

func (t *transfer) resendWhole(*packet) { t.send(t.msg, (*transfer).wholeSent) }

func (t *transfer) startBlocks() {
	szx, ok := alignedSZX(t.r.BodyOffset, t.szx)
	if !ok || t.r.BodyOffset > t.size {
		t.end(nil, fmt.Errorf("%w: cannot go on at %d", ErrTooLarge, t.r.BodyOffset))
		return
	}
	t.szx, t.done = szx, t.r.BodyOffset
	t.x.confirm = true
	t.sendBlock(nil)
}

// sendBlock sends the block at offset t.done.
func (t *transfer) sendBlock(*packet) {
	if t.size > reach(t.szx) {
		t.end(nil, fmt.Errorf("%w: %d bytes in blocks of %d", ErrTooLarge, t.size, block{szx: t.szx}.size()))
		return
	}
	m := outgoing{offset: t.done, block1: blockAt(t.done, t.szx), hasBlock1: true}
	m.n = min(t.maxPayload(), t.size-t.done)
	m.block1.more = t.done+m.n < t.size
	t.send(m, (*transfer).blockSent)
}

// blockSent handles the response to a block. A response that asks for nothing more is the final
// one.
func (t *transfer) blockSent(reply *packet) {
	m, b := &reply.msg, t.msg.block1
	got, echoed, err := findBlock(m.options, Block1)
	if err != nil {
		reply.free()
		t.end(nil, fmt.Errorf("%w: %w", ErrProtocol, err))
		return
	}
	smaller := echoed && got.szx < b.szx
	switch {
	case t.lostAck(m):
		t.done = t.msg.offset + t.msg.n
		t.skipped, t.doubt = true, true
		reply.free()
		t.sendBlock(nil)
		return
	case m.code == RequestEntityIncomplete && !b.more && t.repeated():
		// The peer may have got the whole body with the first copy, whose answer was lost, and so
		// no longer know the transfer.
		reply.free()
		t.end(nil, fmt.Errorf("%w: the answer to the last block was lost", ErrTimeout))
		return
	case t.skipped && isSuccess(m.code) && !(echoed && got.num == b.num && (m.code == Continue || m.code == Changed)):
		reply.free()
		t.end(nil, fmt.Errorf("%w: answer %v to the block after one that was refused", ErrProtocol, m.code))
		return
	case t.doubt && !isSuccess(m.code) && (t.skipped || m.code == RequestEntityIncomplete):
		t.c.notice(NoticeRepeated)
		t.download(reply) // a restart would end in the same way
		return
	case isSuccess(m.code) && b.more:
		// The transfer also continues after 2.04 with M=0, by which the peer says that it acts on
		// each block.
		t.done = t.msg.offset + t.msg.n
		if smaller {
			t.szx = got.szx // block numbers count from the bytes that were sent
		}
		t.busy.progress()
		t.skipped, t.doubt = false, false
	case m.code == Continue:
		reply.free()
		t.end(nil, fmt.Errorf("%w: 2.31 to the last block", ErrProtocol))
		return
	case isSuccess(m.code):
		t.done = t.size
		t.progress()
		t.download(reply)
		return
	case m.code == RequestEntityTooLarge && t.shrinks(m):
		t.done = 0
		if t.msg.offset > 0 {
			t.x.token = t.c.e.random.token()
		}
	case m.code == RequestEntityIncomplete && t.restarts > 0:
		t.restarts--
		t.done = 0
		t.x.token = t.c.e.random.token()
	default:
		t.blockRefused(reply)
		return
	}
	forward := isSuccess(m.code)
	reply.free()
	if forward {
		t.progress()
	}
	t.sendBlock(nil)
}

// repeated reports whether the block that was answered had been sent before.
func (t *transfer) repeated() bool { return t.x.again || t.busy.since != 0 }

// lostAck reports whether an answer to a block means that the peer has the block already; see
// [Request.SkipTaken].
func (t *transfer) lostAck(m *wireMessage) bool {
	if m.code != ServiceUnavailable || !t.x.again {
		return false
	}
	t.doubt = true
	return t.r.SkipTaken && t.msg.block1.more
}

// blockRefused pauses if the peer is busy; else the refusal is the final response.
func (t *transfer) blockRefused(reply *packet) {
	if t.doubt {
		t.c.notice(NoticeRepeated)
	}
	if isBusy(reply.msg.code) {
		if wait, ok := t.refused(&reply.msg, t.busyLimit()); ok {
			reply.free()
			t.rest(wait, (*transfer).sendBlock)
			return
		}
	}
	t.download(reply)
}

// shrinks takes smaller blocks after a 4.13: of the size that the peer suggests, else of the next
// smaller size, because some peers send 4.13 if a block exceeds their input buffer. It reports
// false if the peer probably means the body, or if there is no smaller size. Otherwise the body is
// sent again (RFC 7959, section 2.9.3), each time in smaller blocks.
func (t *transfer) shrinks(m *wireMessage) bool {
	szx, offset := t.szx, t.msg.offset
	if !t.msg.hasBlock1 {
		if t.size <= 16 {
			return false
		}
		szx = min(szx, szxOf(int(t.size-1))+1) // the smallest size that holds the whole body
	}
	if hint, ok, err := findBlock(m.options, Block1); ok && err == nil && hint.szx < szx {
		t.szx = hint.szx
		return true
	}
	limit, known := Uint(m.options, Size1)
	switch {
	case szx == 0, known && int64(limit) < t.size, t.size > reach(szx-1):
		return false
	case offset >= t.tooLarge: // smaller blocks did not help
		return false
	case offset > 0:
		t.tooLarge = offset
	}
	t.szx = szx - 1
	return true
}

func (t *transfer) progress() {
	if t.r.Progress != nil && !t.c.late() {
		t.r.Progress(t.done, t.size)
	}
}
