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
	foreign *Foreign           // not nil while the device holds its package
	hidden  bool               // Object 5 is not there yet
	lost    bool               // Object 5 has gone with the version that had it
	life    context.Context    // ends with the next restart
	stop    context.CancelFunc // ends the download under way
	reboot  chan time.Duration
	log     []string
	late    func(context.Context) // called once the device is back
}

// NewDevice returns a device that uses config, except its Objects, to reach its server.
func NewDevice(config lwm2m.ClientConfig, script Script) *Device {
	d := &Device{
		config: config, script: script, version: script.Version, state: script.Habits.StartsIn,
		hidden: script.Habits.Appears > 0, reboot: make(chan time.Duration, 1),
	}
	if f := script.Habits.Foreign; f != nil {
		d.foreign, d.state = f, fsm.Downloaded
	}
	d.config.Listen = d.listen(config.Listen)
	if len(script.Habits.Nonsense.Values) > 0 {
		d.config.Models = script.Habits.Nonsense.models()
	}
	return d
}

// Run runs the device, through its restarts, until ctx ends.
func (d *Device) Run(ctx context.Context) error {
	if d.script.Habits.Appears > 0 {
		go d.appear(ctx)
	}
	for ctx.Err() == nil {
		down, err := d.boot(ctx)
		if err != nil || down < 0 {
			<-ctx.Done()
			return err
		}
		_ = pause(ctx, down)
	}
	return nil
}

// errReboot ends a client as a restart would.
var errReboot = errors.New("reboot")

// boot runs one life of the device and returns how long it stays down.
func (d *Device) boot(ctx context.Context) (time.Duration, error) {
	life, end := context.WithCancel(ctx)
	defer end()
	d.mu.Lock()
	d.life = life
	config := d.config
	b := &body{ValueObject: lwm2m.NewDeviceObject(d.facts()), device: d, end: end}
	config.Objects = []lwm2m.Object{b}
	if d.hasObject() {
		config.Objects = append(config.Objects, &object{Device: d, id: d.objectID(), instance: d.instance()})
	}
	client, err := lwm2m.NewClient(config)
	if err != nil {
		d.mu.Unlock()
		return -1, err
	}
	d.client = client
	late := d.late
	d.late = nil
	d.mu.Unlock()
	if late != nil {
		go late(ctx)
	}
	err = client.Run(ctx)
	if errors.Is(err, errReboot) {
		return b.down, nil
	}
	return -1, err
}

// facts returns what Object 3 shows. d.mu is held.
func (d *Device) facts() lwm2m.DeviceObjectConfig {
	f := d.script.Device
	f.FirmwareVersion = d.version
	return f
}

// Restart restarts the device after a pause, as a loss of power would.
func (d *Device) Restart(pause time.Duration) {
	select {
	case d.reboot <- pause:
	default:
	}
}

// SetInstall changes the effect of Execute: a device that is updated twice needs another version.
func (d *Device) SetInstall(in Install) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.Install = in
}

// Version returns the version that the device runs.
func (d *Device) Version() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version
}

// Log returns the requests that the device got, one line each: "uri coap://...", "push 4096",
// "execute", "reset", "cancel".
func (d *Device) Log() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.log...)
}

// note logs a line. d.mu is held.
func (d *Device) note(format string, args ...any) {
	d.log = append(d.log, fmt.Sprintf(format, args...))
}

// show changes State and Result and notifies observers, as the script's habits demand, unless ctx
// ends in between.
func (d *Device) show(ctx context.Context, state fsm.State, result fsm.Result) {
	d.mu.Lock()
	habits := d.script.Habits
	if habits.StateFirst > 0 && result != fsm.ResultDefault {
		d.state = state
		d.mu.Unlock()
		d.tell(resState)
		if pause(ctx, habits.StateFirst) != nil {
			return
		}
		d.mu.Lock()
	}
	d.state, d.result = state, result
	d.mu.Unlock()
	d.tell(resResult, resState)
}

// tell notifies observers of resources of Object 5.
func (d *Device) tell(resources ...uint16) {
	d.mu.Lock()
	client := d.client
	d.mu.Unlock()
	if client == nil || d.script.Habits.Mute {
		return
	}
	for _, r := range resources {
		client.Notify(lwm2m.NewPath(d.objectID(), d.instance(), r))
	}
}

func pause(ctx context.Context, t time.Duration) error {
	if t <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
