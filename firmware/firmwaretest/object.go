package firmwaretest

import (
	"context"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// The resources of Object 5, which are those of object 33629 too.
const (
	resPackage   = 0
	resURI       = 1
	resUpdate    = 2
	resState     = 3
	resResult    = 5
	resName      = 6
	resVersion   = 7
	resProtocols = 8
	resDelivery  = 9
	resCancel    = 10
)

// object is the firmware object of a Device in one life.
type object struct {
	*Device
	id, instance uint16
}

var _ lwm2m.StreamWriter = (*object)(nil)

func (o *object) ID() uint16 { return o.id }

func (o *object) Version() string {
	if o.id != 5 {
		return ""
	}
	return "1.1"
}

func (o *object) Instances() []uint16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hidden {
		return nil
	}
	return []uint16{o.instance}
}

func (o *object) path(resource ...uint16) lwm2m.Path {
	return lwm2m.NewPath(append([]uint16{o.id, o.instance}, resource...)...)
}

func (o *object) Read(_ context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	habits := o.script.Habits
	if code := habits.Unreadable; code != 0 {
		return nil, &lwm2m.ResponseError{Code: code}
	}
	if path.IsInstance() && habits.NoInstanceRead {
		return nil, lwm2m.ErrMethodNotAllowed
	}
	var found []lwm2m.Entry
	for _, e := range o.all() {
		if path.Contains(e.Path) {
			found = append(found, e)
		}
	}
	var err error
	if len(found) == 0 {
		err = lwm2m.ErrNotFound
	}
	return habits.Nonsense.instead(path, found, err)
}

// all returns the resources that can be read now.
func (o *object) all() []lwm2m.Entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := []lwm2m.Entry{
		{Path: o.path(resURI), Value: lwm2m.String(o.uri)},
		{Path: o.path(resState), Value: lwm2m.Integer(int64(o.state))},
		{Path: o.path(resResult), Value: lwm2m.Integer(int64(o.result))},
		{Path: o.path(resDelivery), Value: lwm2m.Integer(int64(o.script.Delivery))},
	}
	if o.state == fsm.Downloaded || o.state == fsm.Updating {
		name, version := o.pkg()
		if name != "" {
			all = append(all, lwm2m.Entry{Path: o.path(resName), Value: lwm2m.String(name)})
		}
		if version != "" {
			all = append(all, lwm2m.Entry{Path: o.path(resVersion), Value: lwm2m.String(version)})
		}
	}
	for i, p := range o.script.Protocols {
		all = append(all, lwm2m.Entry{Path: o.path(resProtocols, uint16(i)), Value: lwm2m.Integer(int64(p.Number()))})
	}
	return all
}

func (o *object) Write(_ context.Context, _ lwm2m.Path, entries []lwm2m.Entry, _ bool) error {
	for _, e := range entries {
		if e.Path != o.path(resURI) {
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
		return o.reset()
	}
	o.note("uri %s", uri)
	if o.state == fsm.Downloaded && o.foreign != nil {
		return o.foreignURI(uri)
	}
	if o.state != fsm.Idle {
		return lwm2m.ErrBadRequest
	}
	go o.download(o.transfer(uri), uri)
	return nil
}

// transfer begins a download and returns its context. o.mu is held.
func (o *object) transfer(uri string) context.Context {
	o.uri = uri
	ctx, stop := context.WithCancel(o.life)
	o.stop = stop
	return ctx
}

// reset forgets the package. o.mu is held.
func (o *object) reset() error {
	o.note("reset")
	if o.state == fsm.Updating {
		return lwm2m.ErrMethodNotAllowed
	}
	if o.script.Habits.IgnoresReset {
		return nil
	}
	o.halt()
	o.uri, o.foreign = "", nil
	go o.show(o.life, fsm.Idle, fsm.ResultDefault)
	return nil
}

// halt ends a download. d.mu is held.
func (d *Device) halt() {
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
}

func (o *object) Execute(ctx context.Context, path lwm2m.Path, _ string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch path.Resource() {
	case resUpdate:
		o.note("execute")
		if o.state != fsm.Downloaded {
			return lwm2m.ErrMethodNotAllowed
		}
		o.state = fsm.Updating
		life := o.life
		lwm2m.AfterResponse(ctx, func() { o.install(life) })
		return nil
	case resCancel:
		o.note("cancel")
		if o.state != fsm.Downloading && o.state != fsm.Downloaded {
			return lwm2m.ErrMethodNotAllowed
		}
		o.halt()
		o.foreign = nil
		result := fsm.ResultCancelled
		if o.script.Habits.CancelFails {
			result = fsm.ResultUpdateFailed
		}
		go o.show(o.life, fsm.Idle, result)
		return nil
	}
	return lwm2m.ErrNotFound
}

// alive returns a context that ends with this life.
func (d *Device) alive() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.life
}
