package device

import (
	"context"
	"errors"
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// The resources of Object 5.
const (
	resPackage     = 0
	resURI         = 1
	resUpdate      = 2
	resState       = 3
	resResult      = 5
	resName        = 6
	resVersion     = 7
	resProtocols   = 8
	resMethod      = 9
	resCancel      = 10
	resSeverity    = 11
	resChanged     = 12
	resMaxDefer    = 13
	resAutoUpgrade = 14
)

var (
	pathPackage = lwm2m.NewPath(5, 0, resPackage)
	pathState   = lwm2m.NewPath(5, 0, resState)
	pathResult  = lwm2m.NewPath(5, 0, resResult)
)

// deviceObject is a Device in its role as Object 5. It implements [lwm2m.StreamWriter],
// [lwm2m.VersionFollower] and [lwm2m.Runner].
type deviceObject Device

var (
	_ lwm2m.StreamWriter = (*deviceObject)(nil)
	_ lwm2m.Runner       = (*deviceObject)(nil)

	_ lwm2m.VersionFollower = (*deviceObject)(nil)
)

func (o *deviceObject) device() *Device     { return (*Device)(o) }
func (o *deviceObject) ID() uint16          { return 5 }
func (o *deviceObject) Instances() []uint16 { return []uint16{0} }

// Version returns "" for 1.0, which a registration without a version means.
func (o *deviceObject) Version() string {
	if v := o.device().offered(); v >= fsm.Object11 {
		return v.String()
	}
	return ""
}

// FollowVersion offers the version of Object 5 that belongs to the version of LwM2M.
func (o *deviceObject) FollowVersion(v lwm2m.Version) {
	d := o.device()
	d.commits.Lock() // so that no step is in progress
	defer d.commits.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version = min(d.config.ObjectVersion, fsm.Object10+fsm.ObjectVersion(v.Minor))
	d.object.Version = d.version
}

// offered returns the version of Object 5 that the device offers now.
func (d *Device) offered() fsm.ObjectVersion {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version
}

func (o *deviceObject) Run(ctx context.Context, client *lwm2m.Client) error {
	err := o.device().run(ctx, client)
	if errors.Is(err, ErrRestart) {
		client.Stop(err) // after the server has the answer to its Execute
		return nil
	}
	return err
}

func (o *deviceObject) Read(ctx context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	object, err := o.device().State(o.device().request(ctx))
	if err != nil {
		return nil, err
	}
	if path.Len() > 1 && path.Instance() != 0 {
		return nil, lwm2m.ErrNotFound
	}
	if path.Len() < 3 {
		return o.all(object), nil
	}
	switch path.Resource() {
	case resPackage, resUpdate:
		return nil, lwm2m.ErrMethodNotAllowed
	case resCancel:
		if object.Version >= fsm.Object11 {
			return nil, lwm2m.ErrMethodNotAllowed
		}
	}
	entries := slices.DeleteFunc(o.all(object), func(e lwm2m.Entry) bool {
		return e.Path != path && e.Path.Prefix(path.Len()) != path
	})
	if len(entries) == 0 {
		return nil, lwm2m.ErrNotFound
	}
	return entries, nil
}

// all returns the readable resources that have a value.
func (o *deviceObject) all(object fsm.Object) []lwm2m.Entry {
	var entries []lwm2m.Entry
	add := func(resource uint16, value lwm2m.Value) {
		entries = append(entries, lwm2m.Entry{Path: lwm2m.NewPath(5, 0, resource), Value: value})
	}
	add(resURI, lwm2m.String(object.URI))
	add(resState, lwm2m.Integer(int64(object.State)))
	add(resResult, lwm2m.Integer(int64(object.Result)))
	if object.State == fsm.Downloaded || object.State == fsm.Updating {
		add(resName, lwm2m.String(object.PkgName))
		add(resVersion, lwm2m.String(object.PkgVersion))
	}
	for i, protocol := range o.config.Protocols {
		entries = append(entries, lwm2m.Entry{
			Path: lwm2m.NewPath(5, 0, resProtocols, uint16(i)), Value: lwm2m.Integer(int64(protocol.Number())),
		})
	}
	add(resMethod, lwm2m.Integer(int64(object.Method)))
	if object.Version >= fsm.Object11 {
		add(resSeverity, lwm2m.Integer(int64(object.Severity)))
		if !object.Changed.IsZero() {
			add(resChanged, lwm2m.Time(object.Changed))
		}
		add(resMaxDefer, lwm2m.Unsigned(uint64(object.MaxDefer)))
	}
	if object.Version >= fsm.Object12 {
		add(resAutoUpgrade, lwm2m.Boolean(object.AutoUpgrade))
	}
	return entries
}

func (o *deviceObject) Execute(ctx context.Context, path lwm2m.Path, args string) error {
	if !path.IsResource() || path.Instance() != 0 {
		return lwm2m.ErrMethodNotAllowed
	}
	var kind fsm.InputKind
	switch path.Resource() {
	case resUpdate:
		kind = fsm.InputExecute
	case resCancel:
		kind = fsm.InputCancel
	case resPackage, resURI, resState, resResult, resName, resVersion, resProtocols, resMethod:
		return lwm2m.ErrMethodNotAllowed
	default:
		return lwm2m.ErrNotFound
	}
	d := o.device()
	fx, job, err := d.execute(d.request(ctx), kind)
	if err != nil {
		return err
	}
	if job != jobNone {
		lwm2m.AfterResponse(ctx, func() { d.resume(job) }) // the job may end in a restart
	}
	return codeError(fx.Code, path)
}

// execute steps the machine. It returns the job that may start when the answer has been sent.
func (d *Device) execute(ctx context.Context, kind fsm.InputKind) (fsm.Effects, jobKind, error) {
	object, err := d.State(ctx)
	if err != nil {
		return fsm.Effects{}, jobNone, err
	}
	ev := fsm.Input{Kind: kind, Defer: kind == fsm.InputExecute && object.State == fsm.Downloaded && d.wantsDefer(ctx)}
	d.ops.Lock()
	defer d.ops.Unlock()
	if err := d.boot(ctx); err != nil {
		return fsm.Effects{}, jobNone, err
	}
	fx, err := d.step(ctx, ev)
	if err != nil || !fx.Install {
		return fx, jobNone, err
	}
	job := d.pending
	d.pending = jobNone
	return fx, job, nil
}

// wantsDefer calls Defer. If that fails, the program is not ready for an update.
func (d *Device) wantsDefer(ctx context.Context) bool {
	if d.config.Defer == nil {
		return false
	}
	wants, err := leased(ctx, d.defers, "Defer", hookLimit, func() (bool, error) { return d.config.Defer(), nil })
	if err != nil {
		d.log.Error("update deferred", "error", err)
	}
	return wants || err != nil
}

// resume starts a job that waited until an answer was sent.
func (d *Device) resume(job jobKind) {
	d.ops.Lock()
	defer d.ops.Unlock()
	if d.booted.Load() && d.job == nil && d.snapshot().State == fsm.Updating {
		d.pending = job
		d.kick()
	}
}

// codeError returns the machine's response code as an error, nil for a success.
func codeError(code fsm.Code, path lwm2m.Path) error {
	if code == fsm.CodeNone || code.OK() {
		return nil
	}
	return &lwm2m.ResponseError{Code: lwm2m.ResponseCode(code), Path: path}
}
