package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Device is Object 5, Firmware Update, for a [lwm2m.Client], over an [Installer]. It answers a
// request only after it has made durable what the request changed, and resumes after a crash at any
// point. It carries out what [fsm.Object] decides. Its methods are safe for several goroutines.
//
// If its state cannot be saved, because the disk is full or broken, a device ends the transfer in
// progress or refuses the next one with Result 2 (no storage). It shows that Result even if it
// cannot save it either.
type Device struct {
	config    Config
	installer *guard
	log       *slog.Logger
	defers    *turn // for Defer
	keys      *turn // for Credentials

	// ops serializes all that changes the machine (requests, ends of jobs, and timers), together
	// with its effects. It is locked before commits and mu. A job never locks it, so the holder can
	// wait for a job to end.
	ops lock
	// job is the work in the background, or the last such work. Guarded by ops.
	job *job
	// pending is the job to start next. Guarded by ops.
	pending jobKind
	// push is the package that the server is writing. Guarded by ops.
	push *packageSink
	// again makes run retry failed work later. Guarded by ops.
	again *time.Timer

	// commits serializes changes of the stored copy of the machine. It is locked before mu.
	commits lock
	unsaved bool // object is newer than the stored copy; guarded by commits

	// mu guards the value of the machine. It is never held during a call that may block.
	mu      sync.Mutex
	object  fsm.Object
	version fsm.ObjectVersion // offered now
	client  notifier          // set by run
	lease   *lease            // of the run, nil outside of one
	test    <-chan struct{}   // closed when SelfTest has returned, nil if it was not called

	booted atomic.Bool   // written under ops
	trial  bool          // the running version is on trial; guarded by ops
	reboot bool          // the machine asked for a restart; guarded by ops
	wake   chan struct{} // tells run that there is work
}

// notifier is what a device needs of [lwm2m.Client].
type notifier interface {
	Notify(paths ...lwm2m.Path)
	WaitRegistered(ctx context.Context) error
}

// New returns a device over installer, or an error that names what is wrong with the configuration.
// It starts nothing, and does not call installer before the client uses the object.
func New(installer Installer, config Config) (*Device, error) {
	if slots, ok := installer.(*Slots); installer == nil || ok && slots == nil {
		return nil, errors.New("device: the Installer is nil")
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("device: Config.%w", err)
	}
	config = config.withDefaults()
	log := config.Logger
	return &Device{
		config: config, installer: newGuard(installer, log), log: log, defers: newTurn(log), keys: newTurn(log),
		ops: make(lock, 1), commits: make(lock, 1),
		version: config.ObjectVersion, wake: make(chan struct{}, 1),
	}, nil
}

// Object returns Object 5 for [lwm2m.ClientConfig.Objects]. It does its work in the Run of the
// client, which ends with an error that matches [ErrRestart] when the program must restart into
// another version.
func (d *Device) Object() lwm2m.Object { return (*deviceObject)(d) }

// State returns the object as it is now: State, Result, and what the device knows of the package.
// It loads the stored state if the client does not run yet; the error is that of the Installer.
func (d *Device) State(ctx context.Context) (fsm.Object, error) {
	if d.booted.Load() { // without waiting for a call of the Installer
		return d.snapshot(), nil
	}
	d.ops.Lock()
	defer d.ops.Unlock()
	if err := d.boot(ctx); err != nil {
		return fsm.Object{}, err
	}
	return d.snapshot(), nil
}

// Accept starts an update that was deferred: see [Config.Defer]. It does nothing if no update is
// deferred. The error is that of the Installer, which could not save the decision.
func (d *Device) Accept(ctx context.Context) error {
	d.ops.Lock()
	defer d.ops.Unlock()
	if err := d.boot(ctx); err != nil {
		return err
	}
	_, err := d.step(ctx, fsm.Input{Kind: fsm.InputAccept})
	return err
}

func (d *Device) snapshot() fsm.Object {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.object
}
