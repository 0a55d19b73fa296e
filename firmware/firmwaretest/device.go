package firmwaretest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Device is a device that follows a [Script].
type Device struct {
	config lwm2m.ClientConfig
	script Script

	mu      sync.Mutex
	client  *lwm2m.Client
	version string
	old     string
	state   fsm.State
	result  fsm.Result
	uri     string
	stop    context.CancelFunc // ends the download under way
	reboot  chan time.Duration
	log     []string
	late    func(context.Context) // once the device is back
}

// NewDevice returns a device that reaches its server by config, whose Objects are replaced.
func NewDevice(config lwm2m.ClientConfig, script Script) *Device {
	return &Device{
		config: config, script: script, version: script.Version, state: script.Habits.StartsIn,
		reboot: make(chan time.Duration, 1),
	}
}

// Run runs the device, through its restarts, until ctx ends.
func (d *Device) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		pause, err := d.boot(ctx)
		if err != nil || pause < 0 {
			<-ctx.Done()
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// errReboot ends a client as a restart would.
var errReboot = errors.New("reboot")

// boot runs one life of the device and returns how long it stays down.
func (d *Device) boot(ctx context.Context) (time.Duration, error) {
	d.mu.Lock()
	config := d.config
	object := &object{Device: d}
	config.Objects = []lwm2m.Object{object}
	if d.version != "" {
		config.Objects = append(config.Objects, lwm2m.DeviceObject{FirmwareVersion: d.version})
	}
	client := lwm2m.NewClient(config)
	d.client = client
	late := d.late
	d.late = nil
	d.mu.Unlock()
	if late != nil {
		go late(ctx)
	}
	err := client.Run(ctx)
	if errors.Is(err, errReboot) {
		return object.pause, nil
	}
	return -1, err
}

// Restart restarts the device, as a loss of power would, after a pause.
func (d *Device) Restart(pause time.Duration) {
	select {
	case d.reboot <- pause:
	default:
	}
}

// Version returns what the device runs.
func (d *Device) Version() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version
}

// Log returns what was asked of the device, one line each: "uri coap://...", "push 4096", "execute", "reset", "cancel".
func (d *Device) Log() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.log...)
}

// note logs a line. d.mu is held.
func (d *Device) note(format string, args ...any) {
	d.log = append(d.log, fmt.Sprintf(format, args...))
}

// show changes State and Result and tells observers, as the script's habits demand.
func (d *Device) show(state fsm.State, result fsm.Result) {
	d.mu.Lock()
	client, habits := d.client, d.script.Habits
	if habits.StateFirst > 0 && result != fsm.ResultDefault {
		d.state = state
		d.mu.Unlock()
		d.tell(client, pathState)
		time.Sleep(habits.StateFirst)
		d.mu.Lock()
	}
	d.state, d.result = state, result
	d.mu.Unlock()
	d.tell(client, pathResult, pathState)
}

func (d *Device) tell(client *lwm2m.Client, paths ...lwm2m.Path) {
	if client != nil && !d.script.Habits.Mute {
		client.Notify(paths...)
	}
}

// download is what a Package URI leads to.
func (d *Device) download(ctx context.Context, uri string) {
	if !d.script.Habits.HidesDownloading {
		d.show(fsm.Downloading, fsm.ResultDefault)
	}
	var result fsm.Result
	if d.script.Pull != nil {
		result = d.script.Pull(ctx, uri)
	} else if pause(ctx, d.script.PullTime) != nil {
		return
	}
	if ctx.Err() != nil {
		return
	}
	d.judged(result)
}

func (d *Device) judged(result fsm.Result) {
	if result == fsm.ResultDefault {
		d.show(fsm.Downloaded, result)
	} else {
		d.show(fsm.Idle, result)
	}
}

// install is what Execute leads to.
func (d *Device) install(ctx context.Context) {
	in := d.script.Install
	d.show(fsm.Updating, fsm.ResultDefault)
	if pause(ctx, in.Time) != nil {
		return
	}
	result := in.Result
	if result == fsm.ResultDefault {
		result = fsm.ResultUpdateFailed
		if in.Version != "" {
			result = fsm.ResultSuccess
		}
	}
	state := fsm.Idle
	if in.Kept && result != fsm.ResultSuccess {
		state = fsm.Downloaded
	}
	d.mu.Lock()
	d.old = d.version
	if in.Version != "" {
		d.version = in.Version
	}
	d.mu.Unlock()
	if in.NoReboot {
		d.show(state, result)
		return
	}
	d.mu.Lock()
	switch {
	case in.Forgets:
		d.state, d.result = fsm.Idle, fsm.ResultDefault
	case in.Late > 0:
		d.state, d.result = fsm.Idle, fsm.ResultDefault
		d.late = func(ctx context.Context) {
			if pause(ctx, in.Late) == nil {
				d.show(state, result)
			}
		}
	default:
		d.state, d.result = state, result
	}
	if in.RollsBack > 0 {
		d.late = func(ctx context.Context) {
			if pause(ctx, in.RollsBack) != nil {
				return
			}
			d.mu.Lock()
			d.version, d.state, d.result = d.old, fsm.Idle, fsm.ResultUpdateFailed
			d.mu.Unlock()
			d.Restart(in.BootTime)
		}
	}
	d.mu.Unlock()
	if in.Silent {
		d.Restart(-1)
		return
	}
	d.Restart(in.BootTime)
}

func pause(ctx context.Context, t time.Duration) error {
	if t <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(t):
		return nil
	}
}
