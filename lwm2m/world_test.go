package lwm2m_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

const (
	serverAddress = "10.0.0.1:5683"
	deviceAddress = "10.0.0.2:0"
	endpointName  = "urn:dev:os:1"
)

var (
	serverIP = netip.MustParseAddr("10.0.0.1")
	deviceIP = netip.MustParseAddr("10.0.0.2")
)

// world is a network in memory with a server on it, in virtual time.
type world struct {
	t      *testing.T
	net    *simnet.Network
	server *lwm2m.Server
	events *eventLog
	stop   func() // the server
}

// inWorld runs f in virtual time with a running server, and ends everything before it returns.
func inWorld(t *testing.T, config lwm2m.ServerConfig, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: simnet.New(1)}
		w.start(config)
		defer func() { w.stop() }()
		f(t, w)
	})
}

// start starts a server, also after stop.
func (w *world) start(config lwm2m.ServerConfig) {
	w.t.Helper()
	w.server = lwm2m.MustServer(config)
	w.events = &eventLog{}
	w.server.Watch(w.events.add)
	conn, err := w.net.Listen(serverAddress)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.ServePacket(ctx, conn) }()
	synctest.Wait()
	w.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(w.t, <-done)
	})
}

// device starts a client and waits until it is registered.
func (w *world) device(change func(*lwm2m.ClientConfig)) *lwm2m.Client {
	w.t.Helper()
	client, _ := w.deviceStop(change)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	require.NoError(w.t, client.WaitRegistered(ctx))
	synctest.Wait()
	return client
}

// deviceStop starts a client, which ends with the test or when stop is called.
func (w *world) deviceStop(change func(*lwm2m.ClientConfig)) (client *lwm2m.Client, stop func()) {
	w.t.Helper()
	config := lwm2m.ClientConfig{
		Endpoint: endpointName, Server: "coap://" + serverAddress,
		Objects: []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: "Otago", FirmwareVersion: "1.0.0", Reboot: func() {}})},
		Listen:  func(context.Context) (net.PacketConn, error) { return w.net.Listen(deviceAddress) },
	}
	if change != nil {
		change(&config)
	}
	client, err := lwm2m.NewClient(config)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("client: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return client, stop
}

// cut cuts the link between server and device, or heals it.
func (w *world) cut(yes bool) { w.net.Partition(serverIP, deviceIP, yes) }

// read reads one resource as text.
func (w *world) read(path string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	entries, err := w.server.Read(ctx, endpointName, mustPath(w.t, path))
	require.NoError(w.t, err)
	require.Len(w.t, entries, 1)
	return entries[0].Value.String()
}

// eventLog collects events.
type eventLog struct {
	mu     sync.Mutex
	events []lwm2m.RegistrationEvent
}

func (l *eventLog) add(e lwm2m.RegistrationEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// kinds returns the kinds of events since the last call.
func (l *eventLog) kinds() []lwm2m.EventKind {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	var kinds []lwm2m.EventKind
	for _, e := range l.events {
		kinds = append(kinds, e.Kind)
	}
	l.events = nil
	return kinds
}

// sensor is an object 3303 with one instance: 5700 a float, 5701 a string, 5850 a boolean, 6000
// bytes, 5605 an execute.
type sensor struct {
	mu       sync.Mutex
	value    float64
	on       bool
	unit     string
	blob     []byte
	executed []string
	after    int
}

var sensorModel = &lwm2m.ObjectModel{
	ID: 3303, Version: lwm2m.Version{Major: 1}, Name: "Sensor", Multiple: true,
	Resources: []lwm2m.ResourceModel{
		{ID: 5605, Name: "Reset", Operations: lwm2m.Executable},
		{ID: 5700, Name: "Value", Operations: lwm2m.Readable, Type: lwm2m.TypeFloat, Mandatory: true},
		{ID: 5701, Name: "Unit", Operations: lwm2m.Readable | lwm2m.Writable, Type: lwm2m.TypeString},
		{ID: 5850, Name: "On", Operations: lwm2m.Readable | lwm2m.Writable, Type: lwm2m.TypeBoolean},
		{ID: 6000, Name: "Blob", Operations: lwm2m.Readable | lwm2m.Writable, Type: lwm2m.TypeOpaque},
	},
}

func sensorModels(t *testing.T) *lwm2m.Models {
	t.Helper()
	m := &lwm2m.Models{}
	require.NoError(t, m.Add(sensorModel))
	return m
}

func (s *sensor) ID() uint16          { return 3303 }
func (s *sensor) Version() string     { return "" }
func (s *sensor) Instances() []uint16 { return []uint16{0} }

func (s *sensor) set(v float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = v
}

func (s *sensor) setOn(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = v
}

func (s *sensor) Read(_ context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []lwm2m.Entry{
		{Path: lwm2m.NewPath(3303, 0, 5700), Value: lwm2m.Float(s.value)},
		{Path: lwm2m.NewPath(3303, 0, 5701), Value: lwm2m.String(s.unit)},
		{Path: lwm2m.NewPath(3303, 0, 5850), Value: lwm2m.Boolean(s.on)},
		{Path: lwm2m.NewPath(3303, 0, 6000), Value: lwm2m.Opaque(s.blob)},
	}
	var found []lwm2m.Entry
	for _, e := range all {
		if path.Contains(e.Path) {
			found = append(found, e)
		}
	}
	return found, nil
}

func (s *sensor) Write(_ context.Context, _ lwm2m.Path, entries []lwm2m.Entry, _ bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		switch e.Path.Resource() {
		case 5701:
			s.unit, _ = e.Value.Text()
		case 5850:
			s.on, _ = e.Value.Bool()
		case 6000:
			s.blob, _ = e.Value.Bytes()
		}
	}
	return nil
}

func (s *sensor) Execute(ctx context.Context, _ lwm2m.Path, args string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.executed = append(s.executed, args)
	lwm2m.AfterResponse(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.after++
	})
	return nil
}

// lossy is a bad radio link, but not so bad that five losses in a row occur, which would rightly
// fail a request.
var lossy = simnet.Conditions{
	Loss: 0.05, Duplicate: 0.1, Reorder: 0.2, Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond,
}

func simnetDelay(d time.Duration) simnet.Conditions { return simnet.Conditions{Delay: d} }

// errOf returns the error of [lwm2m.Server.Do].
func errOf(_ lwm2m.Answer, err error) error { return err }
