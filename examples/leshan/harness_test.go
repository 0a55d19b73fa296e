package leshan_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/leshan"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// world is a server with a bridge to a stand-in for Django, on a network in memory and in virtual
// time.
type world struct {
	t       *testing.T
	network *simnet.Network
	server  *lwm2m.Server
	bridge  *leshan.Bridge
	django  *django
	config  leshan.Config
	log     *logBuffer
	devices int
	stop    func()
}

// inWorld runs a test in a world. prepare may be nil.
func inWorld(t *testing.T, prepare func(*leshan.Config), test func(*world)) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "leshan.log")
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, network: simnet.New(1), django: &django{}, log: &logBuffer{}}
		w.config = leshan.Config{
			Sink: "http://127.0.0.1:8000", State: state, Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		}
		if prepare != nil {
			prepare(&w.config)
		}
		models := &lwm2m.Models{}
		require.NoError(t, leshan.DefaultTypes().AddTo(models))
		w.server = lwm2mtest.Serve(t, w.network, "10.0.0.1:5683", lwm2m.ServerConfig{Models: models})
		w.start()
		defer func() { w.stop() }()
		test(w)
	})
}

// start starts a bridge. After stop it continues with the state file of the one before.
func (w *world) start() {
	var err error
	w.bridge, err = leshan.New(w.server, w.config)
	require.NoError(w.t, err)
	leshan.SetDial(w.bridge, w.django.dial)
	w.django.with(func() { w.django.api = w.bridge })
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error)
	go func() { ended <- w.bridge.Run(ctx) }()
	w.stop = func() {
		cancel()
		require.NoError(w.t, <-ended)
		w.stop = func() {}
	}
	synctest.Wait()
}

// settle waits until everything has been said.
func (w *world) settle() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

// device is a device with the objects 3, 5 and 3303.
type device struct {
	w        *world
	endpoint string
	client   *lwm2m.Client
	about    *lwm2m.ValueObject
	update   *lwm2m.ValueObject
	sensor   *lwm2m.ValueObject

	mu       sync.Mutex
	uris     []string
	executed int
	onURI    func(ctx context.Context) error
	onUpdate func() error
}

// register makes a device and registers it. It runs version.
func (w *world) register(endpoint, version string) *device {
	d := &device{w: w, endpoint: endpoint}
	d.about = lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: "Example", FirmwareVersion: version})
	d.sensor = lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: 3303, Values: []lwm2m.Entry{
		{Path: lwm2m.NewPath(3303, 0, 5700), Value: lwm2m.Float(21.5)},
	}})
	d.update = lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
		ID: 5,
		Values: []lwm2m.Entry{
			{Path: lwm2m.NewPath(5, 0, 1), Value: lwm2m.String("")},
			{Path: lwm2m.NewPath(5, 0, 3), Value: lwm2m.Integer(0)},
			{Path: lwm2m.NewPath(5, 0, 5), Value: lwm2m.Integer(0)},
		},
		Writable: map[uint16]func(lwm2m.Value) error{1: nil},
		OnWrite: func(ctx context.Context, values []lwm2m.Entry) error {
			uri, _ := values[0].Value.Text()
			d.mu.Lock()
			d.uris = append(d.uris, uri)
			then := d.onURI
			d.mu.Unlock()
			if then != nil {
				return then(ctx)
			}
			return nil
		},
		OnExecute: map[uint16]func(context.Context, uint16, string) error{2: func(context.Context, uint16, string) error {
			d.mu.Lock()
			d.executed++
			then := d.onUpdate
			d.mu.Unlock()
			if then != nil {
				return then()
			}
			return nil
		}},
	})
	d.connect()
	return d
}

// connect registers the device from a new address.
func (d *device) connect() {
	d.w.devices++
	d.client = lwm2mtest.Register(d.w.t, d.w.network, fmt.Sprintf("10.0.%d.%d:0", 1+d.w.devices/200, 1+d.w.devices%200), lwm2m.ClientConfig{
		Endpoint: d.endpoint, Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{d.about, d.update, d.sensor}, Lifetime: time.Hour,
	})
	d.w.settle()
}

// end ends the device without a de-registration.
func (d *device) end() {
	d.client.Stop(nil)
	time.Sleep(10 * time.Second)
}

// restart ends the device without a de-registration, and registers it again.
func (d *device) restart(version string) {
	d.end()
	if version != "" {
		d.about.Set(lwm2m.NewPath(3, 0, 3), lwm2m.String(version))
	}
	d.connect()
}

func (d *device) state(v int64) {
	d.update.Set(lwm2m.NewPath(5, 0, 3), lwm2m.Integer(v))
	d.w.settle()
}

func (d *device) result(v int64) {
	d.update.Set(lwm2m.NewPath(5, 0, 5), lwm2m.Integer(v))
	d.w.settle()
}

func (d *device) executes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.executed
}

func (d *device) written() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.uris
}

// logBuffer keeps the log of a bridge.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
