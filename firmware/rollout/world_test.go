package rollout_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

const (
	oldFW         = "1.0.0"
	newFW         = "1.1.0"
	serverAddress = "10.0.0.1:5683"
)

// world is a server with a manager of rollouts, and devices, in virtual time.
type world struct {
	t      *testing.T
	net    *simnet.Network
	db     *memory.Store
	images *firmware.Repository
	image  store.Image
	srv    *lwm2m.Server
	mgr    *firmware.Manager
	config rollout.Config
	all    *rollout.Manager
	stop   func()
	ctx    context.Context

	devices sync.WaitGroup
	install map[string]int // how often each device installed
}

func inWorld(t *testing.T, fn func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{t: t, net: simnet.New(1), db: memory.New(), ctx: ctx, install: map[string]int{}}
		w.net.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})
		var err error
		w.images, err = firmware.OpenRepository(dir, w.db, firmware.RepositoryConfig{})
		require.NoError(t, err)
		w.image, err = w.images.Add(ctx, store.Image{Name: "sensor", Version: newFW}, bytes.NewReader(make([]byte, 5000)))
		require.NoError(t, err)
		w.start()
		fn(w)
		cancel()
		w.stop()
		w.devices.Wait()
		require.NoError(t, w.db.Close())
	})
}

// start starts the server over what is stored.
func (w *world) start() {
	conn, err := w.net.Listen(serverAddress)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.ctx)
	w.srv, err = lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(w.db), Logger: testLogger(w.t, "server")})
	require.NoError(w.t, err)
	delivery, err := firmware.NewDelivery(w.images, firmware.DeliveryConfig{})
	require.NoError(w.t, err)
	w.srv.HandleFunc("/", delivery.ServeCoAP)
	w.mgr, err = firmware.NewManager(w.srv, w.db, w.images, firmware.ManagerConfig{Delivery: delivery, Logger: testLogger(w.t, "manager")})
	require.NoError(w.t, err)
	w.config.Logger = testLogger(w.t, "rollouts")
	w.all, err = rollout.NewManager(w.srv, w.mgr, w.db, w.config)
	require.NoError(w.t, err)
	done := make(chan error, 3)
	go func() { done <- w.srv.ServePacket(ctx, conn) }()
	go func() { done <- w.mgr.Run(ctx) }()
	go func() { done <- w.all.Run(ctx) }()
	w.stop = func() {
		cancel()
		for range 3 {
			require.NoError(w.t, <-done)
		}
		w.stop = func() {}
	}
}

func name(i int) string { return fmt.Sprintf("dev-%03d", i) }

// device starts a device that installs as in says.
func (w *world) device(i int, in firmwaretest.Install, config lwm2m.ClientConfig) *firmwaretest.Device {
	config.Endpoint, config.Server, config.Logger = name(i), "coap://"+serverAddress, testLogger(w.t, name(i))
	host := fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)
	config.Listen = func(context.Context) (net.PacketConn, error) { return w.net.Listen(host + ":0") }
	d := firmwaretest.NewDevice(config, firmwaretest.Script{Version: oldFW, Install: in})
	w.devices.Go(func() { _ = d.Run(w.ctx) })
	return d
}

func good() firmwaretest.Install {
	return firmwaretest.Install{Version: newFW, Time: time.Minute, BootTime: 10 * time.Second}
}

func fails() firmwaretest.Install {
	return firmwaretest.Install{Result: 5, Time: time.Minute, NoReboot: true}
}

func (w *world) fleet(n int, odd map[int]firmwaretest.Install) (list []string) {
	for i := range n {
		in, ok := odd[i]
		if !ok {
			in = good()
		}
		w.device(i, in, lwm2m.ClientConfig{})
		list = append(list, name(i))
	}
	time.Sleep(time.Minute)
	return list
}

// until waits until a rollout is as it should be.
func (w *world) until(id string, limit time.Duration, what string, ok func(rollout.Rollout) bool) rollout.Rollout {
	w.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Second) {
		r, err := w.all.Get(w.ctx, id)
		require.NoError(w.t, err)
		if ok(r) {
			return r
		}
		if time.Now().After(end) {
			require.Fail(w.t, what, "%+v\n%s", r.Machine, w.journal(id))
		}
	}
}

func (w *world) ended(id string, limit time.Duration) rollout.Rollout {
	w.t.Helper()
	return w.until(id, limit, "it has not ended", func(r rollout.Rollout) bool { return r.Machine.State == fsm.StateEnded })
}

func (w *world) journal(id string) string {
	var b strings.Builder
	for e, err := range w.all.Events(w.ctx, store.RolloutEventQuery{Rollout: id}) {
		require.NoError(w.t, err)
		fmt.Fprintf(&b, "%s %s: %s\n", e.Time.Format("15:04:05"), e.Name, e.Detail)
	}
	for m, err := range w.all.Members(w.ctx, store.MemberQuery{Rollout: id}) {
		require.NoError(w.t, err)
		if m.Machine.State != fsm.MemberSucceeded {
			fmt.Fprintf(&b, "%s %+v\n", m.Endpoint, m.Machine)
		}
	}
	return b.String()
}

func testLogger(t *testing.T, who string) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("who", who)
}
