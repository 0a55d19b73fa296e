package device

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// guard is an [Installer] whose calls always return. A call that panics or takes too long has
// failed, and while it has not returned no other call begins.
type guard struct {
	to   Installer
	turn *turn
	save *turn          // for SaveState, which may come during another call
	open *guardedWriter // the open writer; guarded by turn
}

func newGuard(to Installer, log *slog.Logger) *guard {
	return &guard{to: to, turn: newTurn(log), save: newTurn(log)}
}

// nothing is the value of calls that return only an error.
type nothing struct{}

func (g *guard) do(ctx context.Context, name string, f func() error) error {
	_, err := leased(ctx, g.turn, name, installerLimit, func() (nothing, error) { return nothing{}, f() })
	return err
}

// patiently calls f, which may take any time until ctx ends, and abandonAfter from then on.
func patiently[T any](ctx context.Context, t *turn, name string, f func() (T, error)) (T, error) {
	timer := time.NewTimer(installerLimit)
	defer timer.Stop()
	var none T
	number, err := t.take(name, timer.C)
	if err != nil {
		return none, err
	}
	r, ok := awaited(ctx, abandonAfter, begin(t, name, permitted(ctx, f)))
	if !ok {
		t.hung.Store(number)
		return none, fmt.Errorf("%w: %s", errHung, name)
	}
	return r.value, r.err
}

// awaited waits for a call, and only up to limit once ctx has ended. ok is false if it has not
// returned.
func awaited[T any](ctx context.Context, limit time.Duration, done <-chan returned[T]) (r returned[T], ok bool) {
	select {
	case r = <-done:
		return r, true
	case <-ctx.Done():
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r = <-done:
		return r, true
	case <-timer.C:
		return r, false
	}
}

func (g *guard) LoadState(ctx context.Context) ([]byte, error) {
	return leased(ctx, g.turn, "LoadState", installerLimit, func() ([]byte, error) { return g.to.LoadState(ctx) })
}

func (g *guard) SaveState(ctx context.Context, record []byte) error {
	_, err := leased(ctx, g.save, "SaveState", installerLimit, func() (nothing, error) { return nothing{}, g.to.SaveState(ctx, record) })
	return err
}

func (g *guard) Status(ctx context.Context) (InstallerStatus, error) {
	return leased(ctx, g.turn, "Status", installerLimit, func() (InstallerStatus, error) { return g.to.Status(ctx) })
}

func (g *guard) OpenPackage(ctx context.Context, offset, size int64) (PackageWriter, error) {
	return leased(ctx, g.turn, "OpenPackage", installerLimit, func() (PackageWriter, error) {
		g.closeLeft()
		if err := mayCall(ctx); err != nil {
			return nil, err
		}
		out, err := g.to.OpenPackage(ctx, offset, size)
		if err != nil {
			return nil, err
		}
		g.open = &guardedWriter{guard: g, out: out, ctx: ctx, at: offset}
		return g.open, nil
	})
}

// closeLeft closes a writer that is still open because its job ended during a call. The caller has
// the turn.
func (g *guard) closeLeft() {
	if g.open == nil {
		return
	}
	left := g.open
	g.open = nil
	if err := left.out.Close(); err != nil {
		g.turn.log.Warn("package not closed", "error", err)
	}
}

func (g *guard) Verify(ctx context.Context) (PackageInfo, error) {
	return patiently(ctx, g.turn, "Verify", func() (PackageInfo, error) { return g.to.Verify(ctx) })
}

func (g *guard) Discard(ctx context.Context) error {
	return g.do(ctx, "Discard", func() error {
		g.closeLeft()
		if err := mayCall(ctx); err != nil {
			return err
		}
		return g.to.Discard(ctx)
	})
}

func (g *guard) Apply(ctx context.Context) (bool, error) {
	return patiently(ctx, g.turn, "Apply", func() (bool, error) { return g.to.Apply(ctx) })
}

func (g *guard) Confirm(ctx context.Context) error {
	return g.do(ctx, "Confirm", func() error { return g.to.Confirm(ctx) })
}

func (g *guard) Rollback(ctx context.Context) error {
	return g.do(ctx, "Rollback", func() error { return g.to.Rollback(ctx) })
}

var errMiscounted = errors.New("device: the installer returned an impossible count")

// guardedWriter writes while its package is the open one. A writer that was left behind writes
// nothing into the next package, and is closed when that is opened.
type guardedWriter struct {
	guard *guard
	out   PackageWriter
	ctx   context.Context // of OpenPackage, for its lease
	at    int64           // the offset up to which it has written; guarded by turn
}

func (w *guardedWriter) Write(p []byte) (int, error) {
	own := bytes.Clone(p) // a call that hangs still holds it when the caller reuses p
	return leased(w.ctx, w.guard.turn, "Write", installerLimit, func() (int, error) {
		if w.guard.open != w {
			return 0, errPushEnded
		}
		n, err := w.out.Write(own)
		switch {
		case n < 0 || n > len(own):
			return 0, fmt.Errorf("%w: wrote %d of %d bytes: %w", errMiscounted, n, len(own), cmp.Or(err, io.ErrShortWrite))
		case n < len(own) && err == nil: // otherwise the package would have a gap
			err = io.ErrShortWrite
		}
		w.at += int64(n)
		return n, err
	})
}

func (w *guardedWriter) Sync() (int64, error) {
	return leased(w.ctx, w.guard.turn, "Sync", installerLimit, func() (int64, error) {
		if w.guard.open != w {
			return 0, errPushEnded
		}
		durable, err := w.out.Sync()
		if err == nil && (durable < 0 || durable > w.at) {
			err = fmt.Errorf("%w: %d bytes are durable of %d", errMiscounted, durable, w.at)
		}
		return durable, err
	})
}

func (w *guardedWriter) Close() error {
	return w.guard.do(w.ctx, "Close", func() error {
		if w.guard.open != w {
			return nil
		}
		w.guard.open = nil
		return w.out.Close()
	})
}
