package firmwaretest_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

const endpoint = "sensor-1"

var (
	pkg      = lwm2m.NewPath(5, 0, 0)
	uri      = lwm2m.NewPath(5, 0, 1)
	execute  = lwm2m.NewPath(5, 0, 2)
	state    = lwm2m.NewPath(5, 0, 3)
	result   = lwm2m.NewPath(5, 0, 5)
	pkgVer   = lwm2m.NewPath(5, 0, 7)
	version  = lwm2m.NewPath(3, 0, 3)
	serverIP = netip.MustParseAddr("10.0.0.1")
	deviceIP = netip.MustParseAddr("10.0.0.2")
)

// world is a server with a registered scripted device, in virtual time.
type world struct {
	t      *testing.T
	net    *simnet.Network
	server *lwm2m.Server
	device *firmwaretest.Device

	mu     sync.Mutex
	events []lwm2m.RegistrationEvent
}

// scripted runs fn in a world with a device that follows script.
func scripted(t *testing.T, script firmwaretest.Script, fn func(w *world), options ...func(*lwm2m.ClientConfig)) {
	t.Helper()
	// The next registration, which comes from another socket, must not overtake the answer to
	// Execute.
	script.Install.Time = max(script.Install.Time, time.Second)
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: simnet.New(1)}
		w.net.SetDefault(simnet.Conditions{Delay: 10 * time.Millisecond})
		w.server = lwm2mtest.Serve(t, w.net, "10.0.0.1:5683", lwm2m.ServerConfig{})
		defer w.server.Watch(func(e lwm2m.RegistrationEvent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		})()
		config := lwm2m.ClientConfig{
			Endpoint: endpoint, Server: "coap://10.0.0.1:5683",
			Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen("10.0.0.2:0") },
		}
		for _, o := range options {
			o(&config)
		}
		w.device = firmwaretest.NewDevice(config, script)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.device.Run(ctx) }()
		w.eventually(func() bool { _, ok := w.server.Registration(endpoint); return ok })
		defer func() {
			cancel()
			require.NoError(t, <-ended)
		}()
		fn(w)
	})
}

// eventually waits until what returns true, a day at most.
func (w *world) eventually(what func() bool) {
	w.t.Helper()
	for limit := time.Now().Add(24 * time.Hour); !what(); <-time.After(50 * time.Millisecond) {
		require.True(w.t, time.Now().Before(limit), "waited in vain")
	}
}

func (w *world) read(path lwm2m.Path) (lwm2m.Value, error) {
	entries, err := w.server.Read(w.t.Context(), endpoint, path)
	if err != nil {
		return lwm2m.Value{}, err
	}
	require.Len(w.t, entries, 1)
	return entries[0].Value, nil
}

// shows waits until the device shows a State and a Result.
func (w *world) shows(s fsm.State, r fsm.Result) {
	w.t.Helper()
	w.eventually(func() bool {
		gotState, err1 := w.read(state)
		gotResult, err2 := w.read(result)
		return err1 == nil && err2 == nil && gotState == lwm2m.Integer(int64(s)) && gotResult == lwm2m.Integer(int64(r))
	})
}

func (w *world) write(path lwm2m.Path, v lwm2m.Value) error {
	return w.server.WriteValue(w.t.Context(), endpoint, path, v)
}

func (w *world) execute() error { return w.server.Execute(w.t.Context(), endpoint, execute, "") }

func (w *world) links() string {
	r, _ := w.server.Registration(endpoint)
	return r.Links
}

// happened returns how often an event has happened.
func (w *world) happened(kind lwm2m.EventKind) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func requireCode(t testing.TB, err error, code lwm2m.ResponseCode) {
	t.Helper()
	re, ok := errors.AsType[*lwm2m.ResponseError](err)
	require.True(t, ok, "%v is no answer", err)
	require.Equal(t, code, re.Code)
}
