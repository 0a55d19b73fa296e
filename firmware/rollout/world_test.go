package rollout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	ufsm "github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/firmware/rollout/rollouttest"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/storetest"
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
	die    func() // as stop, but does not wait
	ctx    context.Context

	awake   time.Duration                   // AwakeTime of the server
	blind   bool                            // the manager reads no devices without an update
	late    time.Duration                   // after which the next start listens
	store   rollouttest.Store               // what the next start uses; nil for db
	running sync.WaitGroup                  // the devices
	devices map[string]*firmwaretest.Device // by endpoint
}

func inWorld(t *testing.T, fn func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{t: t, net: simnet.New(1), db: memory.New(), ctx: ctx, devices: map[string]*firmwaretest.Device{}}
		w.net.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})
		var err error
		w.images, err = firmware.OpenRepository(dir, w.db, firmware.RepositoryConfig{})
		require.NoError(t, err)
		w.image, err = w.images.Add(ctx, store.Image{Name: "sensor", Version: newFW}, bytes.NewReader(make([]byte, 5000)))
		require.NoError(t, err)
		w.start()
		defer func() {
			cancel()
			w.stop()
			w.running.Wait()
			require.NoError(t, w.db.Close())
		}()
		fn(w)
	})
}

// start starts the server over what is stored.
func (w *world) start() {
	conn, err := w.net.Listen(serverAddress)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(w.ctx)
	var db rollouttest.Store = w.db
	if w.store != nil {
		db = w.store
	}
	w.srv, err = lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db), AwakeTime: w.awake, Logger: testLogger(w.t, "server")})
	require.NoError(w.t, err)
	delivery, err := firmware.NewDelivery(w.images, firmware.DeliveryConfig{})
	require.NoError(w.t, err)
	w.srv.HandleFunc("/", delivery.ServeCoAP)
	w.mgr, err = firmware.NewManager(w.srv, db, w.images, firmware.ManagerConfig{
		Delivery: delivery, Logger: testLogger(w.t, "manager"), Inventory: !w.blind,
		Keep: func(ctx context.Context, kind store.Kind, id string) (string, error) {
			return w.all.Keep(ctx, kind, id)
		},
	})
	require.NoError(w.t, err)
	w.config.Logger = testLogger(w.t, "rollouts")
	w.all, err = rollout.NewManager(w.srv, w.mgr, db, w.config)
	require.NoError(w.t, err)
	done := make(chan error, 3)
	late := w.late
	go func() {
		time.Sleep(late)
		done <- w.srv.ServePacket(ctx, conn)
	}()
	go func() { done <- w.mgr.Run(ctx) }()
	go func() { done <- w.all.Run(ctx) }()
	w.die = cancel
	w.stop = func() {
		cancel()
		for range 3 {
			if err := <-done; !errors.Is(err, storetest.ErrCrashed) {
				require.NoError(w.t, err)
			}
		}
		w.stop = func() {}
	}
}

func name(i int) string { return fmt.Sprintf("dev-%03d", i) }

func host(i int) string { return fmt.Sprintf("10.1.%d.%d", i/250, i%250+1) }

// cut cuts the link between a device and the server, or mends it.
func (w *world) cut(i int, cut bool) {
	w.net.Partition(netip.MustParseAddr(host(i)), netip.MustParseAddrPort(serverAddress).Addr(), cut)
}

// installs returns how often a device was made to install.
func (w *world) installs(endpoint string) (n int) {
	for _, line := range w.devices[endpoint].Log() {
		if line == "execute" {
			n++
		}
	}
	return n
}

// once fails the test if a device has installed more than once.
func (w *world) once() {
	w.t.Helper()
	for endpoint := range w.devices {
		require.LessOrEqual(w.t, w.installs(endpoint), 1, endpoint)
	}
}

// create makes a rollout that starts.
func (w *world) create(q rollout.Request) rollout.Rollout {
	w.t.Helper()
	if q.Image == "" {
		q.Image = w.image.ID
	}
	q.Start = true
	r, err := w.all.Create(w.ctx, q)
	require.NoError(w.t, err)
	return r
}

func (w *world) get(id string) rollout.Rollout {
	w.t.Helper()
	r, err := w.all.Get(w.ctx, id)
	require.NoError(w.t, err)
	return r
}

func (w *world) member(id, endpoint string) rollout.Member {
	w.t.Helper()
	m, err := w.db.Member(w.ctx, id, endpoint)
	require.NoError(w.t, err)
	return m
}

// state waits until a rollout is in a state.
func (w *world) state(id string, state fsm.State, limit time.Duration) rollout.Rollout {
	w.t.Helper()
	return w.until(id, limit, "it is not "+string(state), func(r rollout.Rollout) bool { return r.Machine.State == state })
}

// client is the configuration of a device's client.
func (w *world) client(i int, config lwm2m.ClientConfig) lwm2m.ClientConfig {
	config.Endpoint, config.Server, config.Logger = name(i), "coap://"+serverAddress, testLogger(w.t, name(i))
	config.Listen = func(context.Context) (net.PacketConn, error) { return w.net.Listen(host(i) + ":0") }
	return config
}

// device starts a device that installs as in says.
func (w *world) device(i int, in firmwaretest.Install, config lwm2m.ClientConfig) *firmwaretest.Device {
	d := firmwaretest.NewDevice(w.client(i, config), firmwaretest.Script{Version: oldFW, Install: in})
	w.devices[name(i)] = d
	w.running.Go(func() { _ = d.Run(w.ctx) })
	return d
}

func updateOf(w *world, endpoint string) firmware.Request {
	return firmware.Request{Endpoint: endpoint, Image: w.image.ID}
}

func holdOf(holder string) firmware.Hold { return firmware.Hold{Holder: holder, Reason: "a test"} }

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

var clientDefault lwm2m.ClientConfig

// slowPull starts a good device that takes its time to download.
func (w *world) slowPull(i int, takes time.Duration) *firmwaretest.Device {
	d := firmwaretest.NewDevice(w.client(i, clientDefault), firmwaretest.Script{Version: oldFW, PullTime: takes, Install: good()})
	w.devices[name(i)] = d
	w.running.Go(func() { _ = d.Run(w.ctx) })
	return d
}

// phase waits until the update of a member is in a phase.
func (w *world) phase(id, endpoint string, phase ufsm.Phase) firmware.Update {
	w.t.Helper()
	for range 10_000 {
		if m := w.member(id, endpoint); m.Machine.Update != "" {
			u, err := w.mgr.Get(w.ctx, m.Machine.Update)
			require.NoError(w.t, err)
			if u.Phase() == phase {
				return u
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	require.Fail(w.t, "the update is never "+string(phase))
	return firmware.Update{}
}

func zeros(n int) *bytes.Reader { return bytes.NewReader(make([]byte, n)) }
