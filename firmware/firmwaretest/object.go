package firmwaretest

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

var (
	pathState  = lwm2m.NewPath(5, 0, 3)
	pathResult = lwm2m.NewPath(5, 0, 5)
)

// object is Object 5 of a Device in one life.
type object struct {
	*Device
	pause time.Duration // of the restart that ended the life
	life  context.Context
}

func (o *object) ID() uint16          { return 5 }
func (o *object) Version() string     { return "1.1" }
func (o *object) Instances() []uint16 { return []uint16{0} }

// Run ends the life when the device restarts.
func (o *object) Run(ctx context.Context, _ *lwm2m.Client) error {
	life, end := context.WithCancel(ctx)
	defer end()
	o.mu.Lock()
	o.life = life
	o.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil
	case o.pause = <-o.reboot:
		return errReboot
	}
}

func (o *object) Read(_ context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	if path.IsInstance() && o.script.Habits.NoInstanceRead {
		return nil, lwm2m.ErrMethodNotAllowed
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	all := []lwm2m.Entry{
		{Path: lwm2m.NewPath(5, 0, 1), Value: lwm2m.String(o.uri)},
		{Path: pathState, Value: lwm2m.Integer(int64(o.state))},
		{Path: pathResult, Value: lwm2m.Integer(int64(o.result))},
		{Path: lwm2m.NewPath(5, 0, 9), Value: lwm2m.Integer(int64(o.script.Delivery))},
	}
	for i, p := range o.script.Protocols {
		all = append(all, lwm2m.Entry{Path: lwm2m.NewPath(5, 0, 8, uint16(i)), Value: lwm2m.Integer(int64(p.Number()))})
	}
	var found []lwm2m.Entry
	for _, e := range all {
		if path.Contains(e.Path) {
			found = append(found, e)
		}
	}
	if len(found) == 0 {
		return nil, lwm2m.ErrNotFound
	}
	return found, nil
}

func (o *object) Write(_ context.Context, _ lwm2m.Path, entries []lwm2m.Entry, _ bool) error {
	for _, e := range entries {
		if e.Path != lwm2m.NewPath(5, 0, 1) {
			return lwm2m.ErrMethodNotAllowed
		}
		uri, _ := e.Value.Text()
		if err := o.writeURI(uri); err != nil {
			return err
		}
	}
	return nil
}

func (o *object) writeURI(uri string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if uri == "" {
		o.note("reset")
		if o.state == fsm.Updating {
			return lwm2m.ErrMethodNotAllowed
		}
		if !o.script.Habits.IgnoresReset {
			o.reset()
		}
		return nil
	}
	o.note("uri %s", uri)
	if o.state != fsm.Idle {
		return lwm2m.ErrBadRequest
	}
	o.uri = uri
	ctx, stop := context.WithCancel(o.life)
	o.stop = stop
	go o.download(ctx, uri)
	return nil
}

// reset forgets the package. o.mu is held.
func (o *object) reset() {
	if o.stop != nil {
		o.stop()
		o.stop = nil
	}
	o.uri = ""
	go o.show(fsm.Idle, fsm.ResultDefault)
}

func (o *object) Execute(ctx context.Context, path lwm2m.Path, _ string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch path.Resource() {
	case 2:
		o.note("execute")
		if o.state != fsm.Downloaded {
			return lwm2m.ErrMethodNotAllowed
		}
		o.state = fsm.Updating
		life := o.life
		lwm2m.AfterResponse(ctx, func() { o.install(life) })
		return nil
	case 10:
		o.note("cancel")
		if o.state != fsm.Downloading && o.state != fsm.Downloaded {
			return lwm2m.ErrMethodNotAllowed
		}
		if o.stop != nil {
			o.stop()
		}
		go o.show(fsm.Idle, fsm.ResultCancelled)
		return nil
	}
	return lwm2m.ErrNotFound
}

// OpenWrite takes a package that is pushed.
func (o *object) OpenWrite(_ context.Context, path lwm2m.Path, _ int64) (lwm2m.Sink, error) {
	if path != lwm2m.NewPath(5, 0, 0) {
		return nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == fsm.Updating {
		return nil, lwm2m.ErrMethodNotAllowed
	}
	return &sink{object: o}, nil
}

// sink counts the bytes of a pushed package.
type sink struct {
	object *object
	size   int64
	first  byte
}

func (s *sink) Write(p []byte) (int, error) {
	if s.size == 0 && len(p) > 0 {
		s.first = p[0]
		if !s.object.script.Habits.HidesDownloading {
			s.object.show(fsm.Downloading, fsm.ResultDefault)
		}
	}
	s.size += int64(len(p))
	return len(p), nil
}

func (s *sink) Commit(context.Context) error {
	o := s.object
	o.mu.Lock()
	o.note("push %d", s.size)
	o.mu.Unlock()
	var result fsm.Result
	if o.script.Pushed != nil {
		result = o.script.Pushed(s.size)
	}
	go o.judged(result)
	return nil
}

func (s *sink) Abort(error) { go s.object.show(fsm.Idle, fsm.ResultConnectionLost) }
