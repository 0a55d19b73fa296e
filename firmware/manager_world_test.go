package firmware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

const (
	endpoint = "urn:imei:490154203237518"
	oldFW    = "1.0.0"
	newFW    = "1.1.0"
)

// world is a server with a manager, and devices, on a network in memory, in virtual time.
type world struct {
	t        *testing.T
	net      *simnet.Network
	db       store.Store
	dir      string
	images   *firmware.Repository
	bucket   *bucket                 // holds the bytes of images; nil: they are in dir
	serve    firmware.DeliveryConfig // configuration of the delivery
	delivery *firmware.Delivery
	serving  atomic.Pointer[firmware.Delivery] // the same, for devices while the server restarts
	srv      *lwm2m.Server
	mgr      *firmware.Manager
	image    store.Image
	config   firmware.ManagerConfig
	stop     func()                   // ends the server
	crash    func()                   // cuts the server off without waiting
	effect   func(func() error) error // runs each send of the server's datagrams; nil: nothing
	filter   func([]byte) bool        // reports which datagrams are lost; nil: none
	ctx      context.Context

	devices sync.WaitGroup
}

const serverAddress = "10.0.0.1:5683"

// inWorld runs fn in a bubble of virtual time.
func inWorld(t *testing.T, config firmware.ManagerConfig, fn func(w *world)) {
	t.Helper()
	inWorldThatServes(t, firmware.DeliveryConfig{}, config, fn)
}

// inWorldThatServes is inWorld with another configuration of the delivery.
func inWorldThatServes(t *testing.T, serve firmware.DeliveryConfig, config firmware.ManagerConfig, fn func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{t: t, net: simnet.New(1), db: memory.New(), dir: dir, serve: serve, config: config, ctx: ctx}
		w.net.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})
		w.openImages(w.db)
		img, err := w.images.Add(ctx, store.Image{Name: "sensor", Version: newFW}, bytes.NewReader(make([]byte, 5000)))
		require.NoError(t, err)
		w.image = img
		// After a failure too: if goroutines are left in the bubble, its panic hides the failure.
		t.Cleanup(func() {
			cancel()
			w.stop()
			w.devices.Wait()
			require.NoError(t, w.db.Close())
		})
		w.start(w.db)
		fn(w)
	})
}

func (w *world) openImages(db store.Store) {
	images, err := firmware.OpenRepository(w.dir, db, firmware.RepositoryConfig{})
	if w.bucket != nil {
		images, err = firmware.NewRepository(w.bucket, db, firmware.RepositoryConfig{Spool: w.dir, Logger: testLogger(w.t, "images")})
	}
	require.NoError(w.t, err)
	w.images = images
	w.delivery, err = firmware.NewDelivery(images, w.serve)
	require.NoError(w.t, err)
	w.serving.Store(w.delivery)
}

// start starts server and manager over db. stop then ends them, and crash cuts them off at once.
func (w *world) start(db store.Store) {
	listen, err := w.net.Listen(serverAddress)
	require.NoError(w.t, err)
	conn := net.PacketConn(listen)
	if w.effect != nil {
		conn = effects{listen, w.effect}
	}
	if w.filter != nil {
		conn = filtered{conn, w.filter}
	}
	ctx, cancel := context.WithCancel(w.ctx)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db), Logger: testLogger(w.t, "server")})
	require.NoError(w.t, err)
	w.srv = srv
	w.config.Logger = testLogger(w.t, "manager")
	w.srv.HandleFunc("/", w.delivery.ServeCoAP)
	w.mgr = w.manager(db)
	done := make(chan error, 2)
	go func() { done <- w.srv.ServePacket(ctx, conn) }()
	go func() { done <- w.mgr.Run(ctx) }()
	w.crash = func() {
		_ = conn.Close()
		cancel()
	}
	w.stop = func() {
		cancel()
		for range 2 {
			<-done
		}
		w.stop = func() {}
	}
}

// manager returns a manager of the world's server.
func (w *world) manager(db store.Store) *firmware.Manager {
	if w.config.PackageURI == nil || w.serve.BaseURLs != nil {
		w.config.Delivery = w.delivery
	}
	mgr, err := firmware.NewManager(w.srv, db, w.images, w.config)
	require.NoError(w.t, err)
	return mgr
}

// effects is a socket whose datagrams go through a function.
type effects struct {
	net.PacketConn
	effect func(func() error) error
}

func (e effects) WriteTo(b []byte, to net.Addr) (n int, err error) {
	err = e.effect(func() error {
		n, err = e.PacketConn.WriteTo(b, to)
		return err
	})
	return n, err
}

// filtered is a socket that loses some datagrams that it sends.
type filtered struct {
	net.PacketConn
	lost func([]byte) bool
}

func (f filtered) WriteTo(b []byte, to net.Addr) (int, error) {
	if f.lost(b) {
		return len(b), nil
	}
	return f.PacketConn.WriteTo(b, to)
}

// device starts a scripted device.
func (w *world) device(script firmwaretest.Script) *firmwaretest.Device {
	return w.deviceNamed(endpoint, "10.0.1.1", script)
}

func (w *world) deviceNamed(name, host string, script firmwaretest.Script) *firmwaretest.Device {
	return w.deviceThat(name, host, func(*lwm2m.ClientConfig) {}, script)
}

func (w *world) deviceThat(name, host string, set func(*lwm2m.ClientConfig), script firmwaretest.Script) *firmwaretest.Device {
	config := lwm2m.ClientConfig{
		Endpoint: name, Server: "coap://" + serverAddress, Logger: testLogger(w.t, "device"),
		Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(host + ":0") },
	}
	set(&config)
	d := firmwaretest.NewDevice(config, script)
	w.devices.Go(func() { _ = d.Run(w.ctx) })
	return d
}

// request is a request for the world's image on the device.
func (w *world) request() firmware.Request {
	return firmware.Request{Endpoint: endpoint, Image: w.image.ID}
}

// update starts an update and waits until it has ended.
func (w *world) update(r firmware.Request) firmware.Update {
	u, err := w.mgr.Start(w.ctx, r)
	require.NoError(w.t, err)
	return w.wait(u.ID, 48*time.Hour)
}

// wait waits until an update has ended.
func (w *world) wait(id string, limit time.Duration) firmware.Update {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	u, err := w.mgr.Wait(ctx, id)
	if errors.Is(err, context.DeadlineExceeded) {
		require.Fail(w.t, "update has not ended", "%+v\n%s", u.Machine, w.journal(id))
	}
	require.NoError(w.t, err)
	return u
}

// journal returns the journal of an update as text.
func (w *world) journal(id string) string {
	var b strings.Builder
	for e, err := range w.mgr.Journal(w.ctx, id) {
		require.NoError(w.t, err)
		fmt.Fprintf(&b, "%s %-12s %-14s %s\n", e.Time.Format("15:04:05.000"), e.Phase, e.Name, e.Detail)
	}
	return b.String()
}

// testLogger logs to the test.
func testLogger(t *testing.T, who string) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", who)
}

// lossy makes the network lose, reorder and duplicate datagrams.
func (w *world) lossy(loss float64) {
	w.net.SetDefault(simnet.Conditions{
		Delay: 50 * time.Millisecond, Jitter: 50 * time.Millisecond, Loss: loss, Duplicate: loss / 2, Reorder: loss,
	})
}
