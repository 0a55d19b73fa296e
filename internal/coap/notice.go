package coap

// Notice says what becomes of a request that waits; see [Request].
type Notice uint8

// Notices, as they come.
const (
	// NoticeSent: the first message of the request goes out. What came before
	// was spent in queues of this endpoint. It comes once.
	NoticeSent Notice = iota + 1
	// NoticeSilent: the peer has left a message unanswered, which is sent again. Where nothing is
	// sent again, on streams and once a message was acknowledged: there was no response within the
	// time of a first retransmission. It comes once until NoticeHeard.
	NoticeSilent
	// NoticeBusy: the peer answered 5.03 or 4.29, and is asked again after a
	// pause. It comes once until NoticeHeard.
	NoticeBusy
	// NoticeHeard, after NoticeSilent or NoticeBusy: the peer answered.
	NoticeHeard
	// NoticeRepeated: the peer refused a block of an upload with 5.03 when that was retransmitted:
	// it may have it, and not recognise duplicates. It comes once until NoticeHeard.
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

// notices are those of a call. The queue is short by itself: while a notice is
// being given, the call has one exchange at most.
type notices struct {
	queue  []Notice
	sent   bool
	silent bool
	busy   bool
	again  bool // NoticeRepeated
}

// next takes the first off a queue that is not empty.
func (q *notices) next() Notice {
	n := q.queue[0]
	q.queue = q.queue[:copy(q.queue, q.queue[1:])]
	return n
}

// notice gives a notice, if it says something new. The association may be locked.
func (c *Call) notice(n Notice) {
	if c == nil || c.r.Notice == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.notices
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

// heard says that a message of the peer came. One that says nothing but that
// it is busy yet, or that it got the request, is no news of a peer that is known
// to be busy. The association is locked.
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
