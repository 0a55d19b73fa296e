package device

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// quitAfter is how long after the end of its run a device may still call the program. It is less
// than lwm2m.Client.Run waits for the run to return, and more than abandonAfter.
const quitAfter = 45 * time.Second

var errStopped = errors.New("device: stopped")

// A lease permits code of the device to call the program, that is its Installer and hooks. The
// lease of a run ends with the run, that of a job when the job is left behind. Code that was
// waiting then does not call any more. The lease is carried by a context. A context without a lease
// comes from the program itself.
type lease struct {
	over   atomic.Bool
	parent *lease
}

func (l *lease) ended() bool { return l != nil && (l.over.Load() || l.parent.ended()) }

type leaseKey struct{}

// withLease returns a context with a new lease, which ends no later than that of ctx.
func withLease(ctx context.Context) (context.Context, *lease) {
	parent, _ := ctx.Value(leaseKey{}).(*lease)
	l := &lease{parent: parent}
	return context.WithValue(ctx, leaseKey{}, l), l
}

// mayCall returns errStopped when code with this context must not call the program any more.
func mayCall(ctx context.Context) error {
	if l, _ := ctx.Value(leaseKey{}).(*lease); l.ended() {
		return errStopped
	}
	return nil
}

// leased waits for its turn and calls f, unless the lease of ctx has ended.
func leased[T any](ctx context.Context, t *turn, name string, limit time.Duration, f func() (T, error)) (T, error) {
	return inTurn(t, name, limit, permitted(ctx, f))
}

// permitted returns a function that calls f if the lease of ctx permits it.
func permitted[T any](ctx context.Context, f func() (T, error)) func() (T, error) {
	return func() (T, error) {
		if err := mayCall(ctx); err != nil {
			var none T
			return none, err
		}
		return f()
	}
}

// request returns the context for a request, with the lease of the run during which it came.
func (d *Device) request(ctx context.Context) context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lease == nil {
		return ctx
	}
	return context.WithValue(ctx, leaseKey{}, d.lease)
}
