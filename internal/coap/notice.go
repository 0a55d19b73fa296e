package coap

// Notice reports the progress of a waiting request; see [Request].
type Notice uint8

// Notices, in their order.
const (
	// NoticeSent: the first message of the request is sent. Until then the request was queued in
	// this endpoint. It comes once.
	NoticeSent Notice = iota + 1
	// NoticeSilent: the peer did not answer a message, which is sent again; or, where nothing is
	// sent again (on streams and after an acknowledgement), there was no response within the time
	// of a first retransmission. It comes once until NoticeHeard.
	NoticeSilent
	// NoticeBusy: the peer answered 5.03 or 4.29. The request is sent again after a pause. It comes
	// once until NoticeHeard.
	NoticeBusy
	// NoticeHeard, after NoticeSilent or NoticeBusy: the peer answered.
	NoticeHeard
	// NoticeRepeated: the peer refused a retransmitted block of an upload with 5.03. It may have
	// the block already, and not recognize duplicates. It comes once until NoticeHeard.
	NoticeRepeated
)

// String returns the name of n.
func (n Notice) String() string {
	switch n {
	case NoticeSent:
		return "sent"
	case NoticeSilent:
		return "silent"
	case NoticeBusy:
		return "busy"
	case NoticeHeard:
		return "heard"
	case NoticeRepeated:
		return "repeated"
	}
	return "unknown"
}

// notices holds the notices of a call. The queue stays short: while a callback runs, the call has
// one exchange at most.
type notices struct {
	queue  []Notice
	sent   bool
	silent bool
	busy   bool
	again  bool // NoticeRepeated
}

// next removes the first element of a queue that is not empty.
func (q *notices) next() Notice {
	n := q.queue[0]
	q.queue = q.queue[:copy(q.queue, q.queue[1:])]
	return n
}

// notice queues n, unless it says nothing new. The association may be locked.
func (c *Call) notice(n Notice) {
	if c == nil || c.r.Notice == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.notices
	if n == NoticeSent && c.r.SentHere {
		if !q.sent {
			q.sent = true
			c.r.Notice(n)
		}
		return
	}
	known := &q.sent
	switch n {
	case NoticeSilent:
		known = &q.silent
	case NoticeBusy:
		known = &q.busy
	case NoticeRepeated:
		known = &q.again
	}
	if !*known {
		*known = true
		q.queue = append(q.queue, n)
		c.schedule()
	}
}

// heard records that a message of the peer came. If the peer is known to be busy, another refusal
// or an acknowledgement is no news. The association is locked.
func (c *Call) heard(news bool) {
	if c == nil || c.r.Notice == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.notices
	if q.silent || q.busy && news {
		q.silent, q.busy, q.again = false, false, false
		q.queue = append(q.queue, NoticeHeard)
		c.schedule()
	}
}
