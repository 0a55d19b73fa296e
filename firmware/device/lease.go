package device

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// quitAfter is how long after the end of its run a device may begin calls of the program. It is less than what lwm2m.Client.Run
// waits for it, and more than abandonAfter.
const quitAfter = 45 * time.Second

var errStopped = errors.New("device: the device has stopped")

// A lease lets code of the device call the program: its Installer and hooks. That of a run ends with the run, that of a job when
// the job is left behind. Code that has been waiting for longer finds that it has ended. It travels in a context; a context
// without one belongs to a call of the program itself.
type lease struct {
	over   atomic.Bool
	parent *lease
}

func (l *lease) ended() bool { return l != nil && (l.over.Load() || l.parent.ended()) }

type leaseKey struct{}

// withLease returns a context with a lease of its own, within the one that ctx has.
func withLease(ctx context.Context) (context.Context, *lease) {
	parent, _ := ctx.Value(leaseKey{}).(*lease)
	l := &lease{parent: parent}
	return context.WithValue(ctx, leaseKey{}, l), l
}

// mayCall returns an error when code that has ctx must not call the program any more.
func mayCall(ctx context.Context) error {
	if l, _ := ctx.Value(leaseKey{}).(*lease); l.ended() {
		return errStopped
	}
	return nil
}

// leased calls f in its turn, if ctx still lets it then.
func leased[T any](ctx context.Context, t *turn, name string, limit time.Duration, f func() (T, error)) (T, error) {
	return inTurn(t, name, limit, permitted(ctx, f))
}

// permitted is f, or a refusal.
func permitted[T any](ctx context.Context, f func() (T, error)) func() (T, error) {
	return func() (T, error) {
		if err := mayCall(ctx); err != nil {
			var none T
			return none, err
		}
		return f()
	}
}

// request returns the context of a request, which must not outlive the run in which it came.
func (d *Device) request(ctx context.Context) context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lease == nil {
		return ctx
	}
	return context.WithValue(ctx, leaseKey{}, d.lease)
}
