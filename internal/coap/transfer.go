package coap

import (
	"errors"
	"time"
)

// transfer is the state of a request of ours with all its messages. It changes in steps, one after
// the other, in [Call.attend]. A step follows each exchange and each pause; it begins the next
// exchange or pause, or ends the transfer. Nothing runs between steps.
type transfer struct {
	c *Call
	a *association
	r *Request
	x exchange

	size  int64   // of the request's body
	szx   uint8   // of blocks, as negotiated
	first Options // of the first message, without the block options
	echo  []byte

	msg  outgoing                     // the last one sent
	then func(t *transfer, _ *packet) // continues with the response to msg, or with nil after a pause

	asking     bool // x is in progress
	resting    bool // a pause is in progress
	challenged bool // the peer has asked for an Echo in response to msg
	sent       bool
	acked      bool
	doubt      bool  // a refused block may have been accepted before: see [Response.Repeated]
	skipped    bool  // the block before msg was refused like this, and skipped
	restarts   int   // restarts left
	tooLarge   int64 // offset of the last 4.13, if not 0; initially maxBody
	done       int64
	busy       busyRetry
	down       *collection // of the response's body, once it has begun
}

// outgoing describes a message of a transfer, so that it can be composed more than once.
type outgoing struct {
	offset, n            int64 // of the request's body
	block1, block2       block
	hasBlock1, hasBlock2 bool
	further              bool // asks for a further block of the response
}

func newTransfer(c *Call, a *association) (*transfer, error) {
	r := c.r
	t := &c.first
	if c.begins {
		t = &transfer{}
	}
	c.begins = true
	*t = transfer{c: c, a: a, r: r, szx: a.blockSZX(), size: int64(len(r.Payload)), restarts: r.Restarts, tooLarge: maxBody}
	if r.Body != nil {
		t.size = r.Size
	}
	switch {
	case r.BlockSize > 1024: // several blocks in a message, if the peer takes them
	case r.BlockSize != 0:
		t.szx = szxOf(r.BlockSize)
	case t.size > 0:
		// Some peers announce any message size, but drop messages that are larger than their
		// buffer.
		t.szx = min(t.szx, maxSZX)
	}
	if t.restarts == 0 {
		t.restarts = 3
	}
	t.x = exchange{
		call:      c,
		request:   true,
		confirm:   !r.NonConfirmable,
		token:     c.e.random.token(),
		idleLimit: r.Idle,
	}
	if err := t.compileOptions(); err != nil {
		return nil, err
	}
	t.szx = a.fittingSZX(t.szx, t.first)
	if t.x.idleLimit <= 0 {
		t.x.idleLimit = c.e.config.Transmission.idle()
	}
	t.x.persist = max(r.Stall, 0)
	t.busy.total = r.BusyRetry
	if o := c.o; o != nil {
		t.x.token = o.token
		if !c.unobserve {
			t.x.observation = o
			o.a = a
		}
	}
	return t, nil
}

// maxPayload is how much of a body goes into one message.
func (t *transfer) maxPayload() int64 {
	n := t.a.maxPayload(t.szx)
	if t.szx == bert && t.r.BlockSize > 1024 {
		n = min(n, int64(t.r.BlockSize)&^1023)
	}
	return n
}

// defaultStall is longer than a device needs for a handover, and allows some 20 transmissions of a
// block.
const defaultStall = 300 * time.Second

var errOptionSize = errors.New("coap: path segment or query of more than 255 bytes")

// compileOptions makes the options of the first message.
func (t *transfer) compileOptions() error {
	r := t.r
	n := len(r.Path) + len(r.Queries) + len(r.Options)
	for _, more := range []bool{r.ContentFormat.present, r.Accept.present, t.c.o != nil} {
		if more {
			n++
		}
	}
	t.first = make(Options, 0, n)
	size := 0
	for _, list := range [][]string{r.Path, r.Queries} {
		for _, s := range list {
			if len(s) > 255 {
				return errOptionSize
			}
			size += len(s)
		}
	}
	text := make([]byte, 0, size) // of all of them
	add := func(id OptionID, list []string) {
		for _, s := range list {
			text = append(text, s...)
			t.first = append(t.first, Option{ID: id, Value: text[len(text)-len(s) : len(text) : len(text)]})
		}
	}
	add(URIPath, r.Path)
	add(URIQuery, r.Queries)
	for _, o := range r.Options {
		t.first = AppendOption(t.first, o.ID, o.Value)
	}
	if n, ok := r.ContentFormat.Get(); ok {
		t.first = AppendUint(t.first, ContentFormat, uint32(n))
	}
	if n, ok := r.Accept.Get(); ok {
		t.first = AppendUint(t.first, Accept, uint32(n))
	}
	if t.c.o != nil {
		var v uint32
		if t.c.unobserve {
			v = 1
		}
		t.first = AppendUint(t.first, Observe, v)
	}
	return nil
}

// step continues after an exchange or a pause. A cause that is not nil means that the call was
// cancelled.
func (t *transfer) step(cause error) {
	var reply *packet
	var err error
	switch {
	case t.asking:
		reply, err = t.x.reply, t.x.err
		t.x.reply = nil
		t.answered()
	case t.resting:
		t.resting = false
		t.a.rested(t.c)
	}
	switch {
	case cause != nil:
		if reply != nil {
			reply.free()
		}
		t.end(nil, cause)
	case err == nil:
		if reply == nil || !t.provesAddress(reply) {
			t.then(t, reply)
		}
	case errors.Is(err, ErrTimeout) && t.x.acked && t.asksAgain():
		t.ask(nil) // the peer acknowledged the request, but its response was lost
	default:
		t.end(nil, err)
	}
}

// answered records the outcome of the last exchange.
func (t *transfer) answered() {
	t.asking = false
	t.sent = t.sent || t.x.sent
	t.acked = t.acked || t.x.acked
	if t.acked {
		t.x.persist = t.stall()
	}
}

// end ends the transfer and its call. err is the cause of a failure.
func (t *transfer) end(resp *Response, err error) {
	a := t.a
	a.mu.Lock()
	a.conclude(&t.x, nil, err) // a no-op, unless a callback has panicked
	a.mu.Unlock()
	if t.asking {
		t.answered()
	}
	if err == nil {
		t.c.end(resp, nil)
		return
	}
	if t.c.again(t, err) {
		return
	}
	failed := &ExchangeError{Peer: a.peer, Sent: t.sent, Acknowledged: t.acked, Done: t.done, Err: err}
	if t.down != nil {
		failed.ETag = t.down.resp.ETag
	}
	t.c.end(nil, failed)
}

// send sends a message of the transfer; then continues with the response.
func (t *transfer) send(m outgoing, then func(*transfer, *packet)) {
	t.msg, t.then, t.challenged = m, then, false
	t.resend(nil)
}

// resend sends the last message once more.
func (t *transfer) resend(*packet) {
	if err := t.compose(&t.msg); err != nil {
		t.end(nil, err)
		return
	}
	t.asking = true
	if err := t.a.submitCall(&t.x); err != nil {
		t.asking = false
		t.end(nil, err)
	}
}

// provesAddress echoes the challenge of a peer that verifies our address (RFC 9175), and reports
// whether it did.
func (t *transfer) provesAddress(reply *packet) bool {
	v, ok := Bytes(reply.msg.options, Echo)
	if reply.msg.code != Unauthorized || !ok || t.challenged {
		return false
	}
	t.challenged = true
	t.echo = append([]byte(nil), v...)
	reply.free()
	t.resend(nil)
	return true
}

// stall returns how long a transfer that has begun may go without progress.
func (t *transfer) stall() time.Duration {
	if t.r.Stall == 0 {
		return defaultStall
	}
	return max(t.r.Stall, 0)
}

// safe reports whether the request may be made again at any time.
func (t *transfer) safe() bool { return t.r.Code == GET || t.r.Code == FETCH }
