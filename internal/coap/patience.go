package coap

import "time"

// patience is the time for which 5.03 is met by waiting.
type patience struct {
	total time.Duration
	since time.Duration // the first refusal without progress between; 0 for none
	next  time.Duration
}

// blockPatience is the patience of a transfer that has begun: a device can be
// locked for 300 s by an earlier one that was abandoned.
const blockPatience = 320 * time.Second

// refused returns how long to wait after a 5.03 or 4.29, and false when patience
// is at its end.
func (t *transfer) refused(m *wireMessage, total time.Duration) (time.Duration, bool) {
	p, now := &t.patience, t.c.e.timers.now()
	if p.since == 0 {
		p.since, p.next = now, 2*time.Second
	}
	wait := p.next
	p.next = min(2*p.next, 30*time.Second)
	if v, ok := Uint(m.options, MaxAge); ok {
		wait = min(max(time.Duration(v)*time.Second, time.Second), time.Minute)
	}
	return wait, now-p.since+wait <= total
}

// blockPatience is the patience with refusals of a block.
func (t *transfer) blockPatience() time.Duration {
	if t.patience.total == 0 {
		return blockPatience
	}
	return t.patience.total
}

func (p *patience) progress() { p.since = 0 }

func isBusy(c Code) bool { return c == ServiceUnavailable || c == TooManyRequests }
