package telemetry_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/telemetry"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/memory"
)

const (
	oldVersion = "1.0.0"
	newVersion = "1.1.0"
)

// A world is a server with telemetry, and devices, on a network in memory, in virtual time.
type world struct {
	t       *testing.T
	ctx     context.Context
	config  telemetry.Config
	net     *simnet.Network
	db      *memory.Store
	images  *firmware.Repository
	image   firmware.Image
	devices sync.WaitGroup

	// Of the server that runs.
	telemetry *telemetry.Telemetry
	reader    *sdkmetric.ManualReader
	mgr       *firmware.Manager
	rollouts  *rollout.Manager
	stop      func()

	spans *tracetest.InMemoryExporter
}

// inWorld runs fn in a bubble of virtual time.
func inWorld(t *testing.T, config telemetry.Config, fn func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &world{t: t, ctx: ctx, config: config, net: simnet.New(1), db: memory.New(), spans: tracetest.NewInMemoryExporter()}
		w.net.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})
		if w.config.TracerProvider == nil {
			w.config.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans), sdktrace.WithIDGenerator(telemetry.IDs{}))
		}
		var err error
		w.images, err = firmware.OpenRepository(dir, w.db, firmware.RepositoryConfig{})
		require.NoError(t, err)
		w.image = w.add("sensor", newVersion)
		w.start()
		defer func() {
			cancel()
			w.stop()
			w.devices.Wait()
			require.NoError(t, w.db.Close())
		}()
		fn(w)
	})
}

func (w *world) add(name, version string) firmware.Image {
	w.t.Helper()
	image, err := w.images.Add(w.ctx, firmware.Image{Name: name, Version: version}, bytes.NewReader(make([]byte, 5000)))
	require.NoError(w.t, err)
	return image
}

// start starts server and managers.
func (w *world) start() {
	w.t.Helper()
	conn, err := w.net.Listen("10.0.0.1:5683")
	require.NoError(w.t, err)
	config := w.config
	w.reader = sdkmetric.NewManualReader()
	if config.MeterProvider == nil {
		config.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.reader))
	}
	w.telemetry, err = telemetry.New(config)
	require.NoError(w.t, err)
	db, rolloutDB := w.telemetry.Store(w.db), w.telemetry.Rollouts(w.db)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db), Hooks: w.telemetry.ServerHooks()})
	require.NoError(w.t, err)
	delivery, err := firmware.NewDelivery(w.images, firmware.DeliveryConfig{})
	require.NoError(w.t, err)
	srv.HandleFunc("/", delivery.ServeCoAP)
	w.mgr, err = firmware.NewManager(srv, db, w.images, firmware.ManagerConfig{Delivery: delivery, Hooks: w.telemetry.Hooks()})
	require.NoError(w.t, err)
	w.rollouts, err = rollout.NewManager(srv, w.mgr, rolloutDB, rollout.Config{})
	require.NoError(w.t, err)
	w.telemetry.Observe(srv, w.mgr, w.rollouts)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 3)
	go func() { done <- srv.ServePacket(ctx, conn) }()
	go func() { done <- w.mgr.Run(ctx) }()
	go func() { done <- w.rollouts.Run(ctx) }()
	w.stop = func() {
		cancel()
		for range 3 {
			require.NoError(w.t, <-done)
		}
		require.NoError(w.t, w.telemetry.Close())
		w.stop = func() {}
	}
}

// device starts a device.
func (w *world) device(n int, script firmwaretest.Script) string {
	endpoint := fmt.Sprintf("dev%03d", n)
	script.Version, script.Delivery = oldVersion, firmware.PushOnly
	device := firmwaretest.NewDevice(lwm2m.ClientConfig{
		Endpoint: endpoint, Server: "coap://10.0.0.1:5683",
		Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(fmt.Sprintf("10.0.1.%d:0", n)) },
	}, script)
	w.devices.Go(func() { _ = device.Run(w.ctx) })
	return endpoint
}

// good takes a moment for its restart, so that its answer to the Execute arrives before its
// Register.
var good = firmwaretest.Script{Install: firmwaretest.Install{Version: newVersion, BootTime: time.Second}}

// update starts an update.
func (w *world) update(endpoint string, image firmware.Image) firmware.Update {
	w.t.Helper()
	u, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: endpoint, Image: image.ID})
	require.NoError(w.t, err)
	return u
}

// ends waits for the end of an update, and of its hooks.
func (w *world) ends(u firmware.Update, outcome firmware.Outcome) firmware.Update {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 48*time.Hour)
	defer cancel()
	u, err := w.mgr.Wait(ctx, u.ID)
	require.NoError(w.t, err)
	require.Equal(w.t, outcome, u.Outcome(), "%+v", u.Machine)
	synctest.Wait()
	return u
}

// metrics collects the metrics: by name, the points as "attribute=value,...": number. Of a
// histogram the number is its count.
func (w *world) metrics() map[string]map[string]int64 {
	w.t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(w.t, w.reader.Collect(w.ctx, &data))
	found := map[string]map[string]int64{}
	for _, scope := range data.ScopeMetrics {
		require.Equal(w.t, telemetry.Scope, scope.Scope.Name)
		for _, m := range scope.Metrics {
			points := map[string]int64{}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					points[p.Attributes.Encoded(encoder)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					points[p.Attributes.Encoded(encoder)] = int64(p.Count)
				}
			default:
				w.t.Errorf("%s is a %T", m.Name, d)
			}
			found[m.Name] = points
		}
	}
	return found
}
