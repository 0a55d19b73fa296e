package coap

import (
	"context"
	"time"
)

// patience is the time for which 5.03 is met by waiting.
type patience struct {
	total time.Duration
	since time.Time // of the first refusal without progress between
	next  time.Duration
}

// blockPatience is the patience of a transfer that has begun: a device can be
// locked for 300 s by an earlier one that was abandoned.
const blockPatience = 320 * time.Second

// refused waits as a 5.03 or 4.29 asks for, and returns false when patience is
// at its end.
func (p *patience) refused(ctx context.Context, m *wireMessage, total time.Duration) (bool, error) {
	if p.since.IsZero() {
		p.since, p.next = time.Now(), 2*time.Second
	}
	wait := p.next
	p.next = min(2*p.next, 30*time.Second)
	if v, ok := Uint(m.options, MaxAge); ok {
		wait = min(max(time.Duration(v)*time.Second, time.Second), time.Minute)
	}
	if time.Since(p.since)+wait > total {
		return false, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

func (p *patience) progress() { p.since = time.Time{} }

func isBusy(c Code) bool { return c == ServiceUnavailable || c == TooManyRequests }
