package firmwaretest

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// OpenWrite takes a pushed package.
func (o *object) OpenWrite(_ context.Context, path lwm2m.Path, size int64) (lwm2m.Sink, error) {
	if path != o.path(resPackage) {
		return nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == fsm.Updating {
		return nil, lwm2m.ErrMethodNotAllowed
	}
	if o.state == fsm.Downloaded && o.foreign != nil {
		if size == 0 || size == 1 { // a reset
			return &sink{object: o, resets: true}, nil
		}
		return nil, o.foreign.refusal()
	}
	return &sink{object: o}, nil
}

// sink counts the bytes of a pushed package.
type sink struct {
	object *object
	size   int64
	resets bool // the value is a reset, not a package
}

func (s *sink) Write(p []byte) (int, error) {
	o := s.object
	if s.size == 0 && len(p) > 0 && !s.resets && !o.script.Habits.HidesDownloading {
		o.show(o.alive(), fsm.Downloading, fsm.ResultDefault)
	}
	s.size += int64(len(p))
	return len(p), nil
}

func (s *sink) Commit(context.Context) error {
	o := s.object
	o.mu.Lock()
	if s.resets {
		defer o.mu.Unlock()
		return o.reset()
	}
	o.note("push %d", s.size)
	o.mu.Unlock()
	var result fsm.Result
	if o.script.Pushed != nil {
		result = o.script.Pushed(s.size)
	}
	go o.judged(o.alive(), result)
	return nil
}

func (s *sink) Abort(error) {
	o := s.object
	go o.show(o.alive(), fsm.Idle, fsm.ResultConnectionLost)
}

// body is Object 3 of a Device in one life, and what ends that life.
type body struct {
	*lwm2m.ValueObject
	device *Device
	end    func()        // ends the life
	down   time.Duration // how long the device stays down afterwards
}

var _ lwm2m.Runner = (*body)(nil)

// Run ends the life when the device restarts.
func (b *body) Run(ctx context.Context, _ *lwm2m.Client) error {
	defer b.end()
	select {
	case <-ctx.Done():
		return nil
	case b.down = <-b.device.reboot:
		return errReboot
	}
}

func (b *body) Read(ctx context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	if code := b.device.script.Habits.NoDeviceRead; code != 0 && path.IsInstance() {
		return nil, &lwm2m.ResponseError{Code: code}
	}
	entries, err := b.ValueObject.Read(ctx, path)
	return b.device.script.Habits.Nonsense.instead(path, entries, err)
}
