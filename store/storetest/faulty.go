package storetest

import (
	"context"
	"iter"

	"github.com/otago-iot/otago/store"
)

// A Call is a call of a store, as [Faulty] passes it to its functions.
type Call struct {
	Method  string         // such as "Commit"
	Changes []store.Change // of Commit
}

// Faulty is a store whose calls a test can make fail or wait. Its functions may be nil. Several
// goroutines call them; a function that waits should return when ctx ends.
type Faulty struct {
	store.Store

	// Before is called before each call except Close. If it returns an error, the call fails with
	// it, without effect.
	Before func(ctx context.Context, call Call) error
	// After is called after each Commit that succeeded. If it returns an error, the Commit fails
	// with it although it took place, as when the connection to a database breaks before its answer
	// arrives.
	After func(ctx context.Context, call Call) error
}

func (f *Faulty) before(ctx context.Context, method string, changes ...store.Change) error {
	if f.Before == nil {
		return nil
	}
	return f.Before(ctx, Call{method, changes})
}

// Commit implements store.Store.
func (f *Faulty) Commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	if err := f.before(ctx, "Commit", changes...); err != nil {
		return 0, err
	}
	seq, err := f.Store.Commit(ctx, changes...)
	if err == nil && f.After != nil {
		err = f.After(ctx, Call{"Commit", changes})
	}
	if err != nil {
		return 0, err
	}
	return seq, nil
}

// Update implements store.Store.
func (f *Faulty) Update(ctx context.Context, id string) (store.Update, error) {
	if err := f.before(ctx, "Update"); err != nil {
		return store.Update{}, err
	}
	return f.Store.Update(ctx, id)
}

// Image implements store.Store.
func (f *Faulty) Image(ctx context.Context, id string) (store.Image, error) {
	if err := f.before(ctx, "Image"); err != nil {
		return store.Image{}, err
	}
	return f.Store.Image(ctx, id)
}

// Device implements store.Store.
func (f *Faulty) Device(ctx context.Context, endpoint string) (store.Device, error) {
	if err := f.before(ctx, "Device"); err != nil {
		return store.Device{}, err
	}
	return f.Store.Device(ctx, endpoint)
}

// Updates implements store.Store.
func (f *Faulty) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	return unless(func() error { return f.before(ctx, "Updates") }, f.Store.Updates(ctx, q))
}

// Events implements store.Store.
func (f *Faulty) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return unless(func() error { return f.before(ctx, "Events") }, f.Store.Events(ctx, q))
}

// Images implements store.Store.
func (f *Faulty) Images(ctx context.Context, q store.ImageQuery) iter.Seq2[store.Image, error] {
	return unless(func() error { return f.before(ctx, "Images") }, f.Store.Images(ctx, q))
}

// Devices implements store.Store.
func (f *Faulty) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[store.Device, error] {
	return unless(func() error { return f.before(ctx, "Devices") }, f.Store.Devices(ctx, q))
}

// Span implements store.Store.
func (f *Faulty) Span(ctx context.Context) (store.Span, error) {
	if err := f.before(ctx, "Span"); err != nil {
		return store.Span{}, err
	}
	return f.Store.Span(ctx)
}

// Counts implements store.Store.
func (f *Faulty) Counts(ctx context.Context, image string) ([]store.Count, error) {
	if err := f.before(ctx, "Counts"); err != nil {
		return nil, err
	}
	return f.Store.Counts(ctx, image)
}

// DeviceCounts implements store.Store.
func (f *Faulty) DeviceCounts(ctx context.Context) (store.DeviceCounts, error) {
	if err := f.before(ctx, "DeviceCounts"); err != nil {
		return store.DeviceCounts{}, err
	}
	return f.Store.DeviceCounts(ctx)
}

func unless[T any](fails func() error, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err := fails(); err != nil {
			var zero T
			yield(zero, err)
			return
		}
		seq(yield)
	}
}
