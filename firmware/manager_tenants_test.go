package firmware_test

import (
	"bytes"
	"context"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// A tenant is a manager with a store, a folder of images and devices of its own.
type tenant struct {
	name     string // what its endpoints begin with
	db       store.Store
	delivery *firmware.Delivery
	mgr      *firmware.Manager
	image    firmware.Image
	bytes    []byte
}

func (t *tenant) owns(endpoint string) bool { return strings.HasPrefix(endpoint, t.name+":") }

// splitRegistrations keeps each registration in the store of the tenant that owns the endpoint.
type splitRegistrations []*tenant

func (s splitRegistrations) of(endpoint string) lwm2m.RegistrationStore {
	for _, t := range s {
		if t.owns(endpoint) {
			return firmware.Registrations(t.db)
		}
	}
	return firmware.Registrations(s[0].db)
}

func (s splitRegistrations) PutRegistration(ctx context.Context, r lwm2m.Registration) error {
	return s.of(r.Endpoint).PutRegistration(ctx, r)
}

func (s splitRegistrations) DeleteRegistration(ctx context.Context, endpoint string) error {
	return s.of(endpoint).DeleteRegistration(ctx, endpoint)
}

func (s splitRegistrations) Registrations(ctx context.Context) iter.Seq2[lwm2m.Registration, error] {
	return func(yield func(lwm2m.Registration, error) bool) {
		for _, t := range s {
			for r, err := range firmware.Registrations(t.db).Registrations(ctx) {
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

// TestTenants runs two managers with two stores and two folders of images on one server. Each
// updates its own device, which downloads by CoAP or HTTP from its own images. A Package URI of one
// tenant does not open images of the other, and neither tenant touches, shows or deletes a device
// of the other.
func TestTenants(t *testing.T) {
	for _, protocol := range []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP} {
		dirs := []string{t.TempDir(), t.TempDir()}
		synctest.Test(t, func(t *testing.T) { testTenants(t, protocol, dirs) })
	}
}

func testTenants(t *testing.T, protocol fsm.Protocol, dirs []string) {
	ctx, cancel := context.WithCancel(t.Context())
	network := simnet.New(1)
	a := &tenant{name: "a", db: memory.New(), bytes: bytes.Repeat([]byte("a"), 5000)}
	b := &tenant{name: "b", db: memory.New(), bytes: bytes.Repeat([]byte("b"), 7000)}
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: splitRegistrations{a, b}, Logger: testLogger(t, "server")})
	require.NoError(t, err)
	var work sync.WaitGroup
	handler := http.NotFoundHandler()
	for i, tn := range []*tenant{a, b} {
		images := openRepository(t, dirs[i], tn.db, firmware.RepositoryConfig{})
		var err error
		tn.image, err = images.Add(ctx, firmware.Image{Name: "sensor", Version: newFW}, bytes.NewReader(tn.bytes))
		require.NoError(t, err)
		tn.delivery, err = firmware.NewDelivery(images, firmware.DeliveryConfig{
			BaseURL: "http://fw.example.com", Prefix: "/" + tn.name + "/", PublicPrefix: "/public/" + tn.name + "/",
		})
		require.NoError(t, err)
		srv.HandleFunc("/"+tn.name+"/", tn.delivery.ServeCoAP)
		handler = tn.delivery.Wrap(handler)
		tn.mgr, err = firmware.NewManager(srv, tn.db, images, firmware.ManagerConfig{
			Delivery: tn.delivery, Owns: tn.owns, Inventory: true, Logger: testLogger(t, tn.name),
		})
		require.NoError(t, err)
		work.Go(func() { _ = tn.mgr.Run(ctx) })
	}
	conn, err := network.Listen(serverAddress)
	require.NoError(t, err)
	work.Go(func() { _ = srv.ServePacket(ctx, conn) })

	// get downloads as a device does, from the server's only listener of that protocol.
	get := func(host, uri string) (string, error) {
		if protocol == fsm.ProtocolHTTP {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, uri, nil))
			if w.Code != http.StatusOK {
				return "", lwm2m.ErrNotFound
			}
			return w.Body.String(), nil
		}
		var body bytes.Buffer
		_, err := lwm2m.Fetch(ctx, uri, &body, lwm2m.FetchConfig{
			Listen: func(context.Context) (net.PacketConn, error) { return network.Listen(host + ":0") },
		})
		return body.String(), err
	}
	uris, got := map[string]string{}, map[string]string{}
	var mu sync.Mutex
	devices := map[*tenant]*firmwaretest.Device{}
	for _, tn := range []*tenant{a, b} {
		host := map[*tenant]string{a: "10.0.1.1", b: "10.0.1.2"}[tn]
		device := firmwaretest.NewDevice(lwm2m.ClientConfig{
			Endpoint: tn.name + ":1", Server: "coap://" + serverAddress, Logger: testLogger(t, "device "+tn.name),
			Listen: func(context.Context) (net.PacketConn, error) { return network.Listen(host + ":0") },
		}, firmwaretest.Script{
			Version: oldFW, Delivery: fsm.PullOnly, Protocols: []fsm.Protocol{protocol}, Install: firmwaretest.Install{Version: newFW},
			Pull: func(_ context.Context, uri string) fsm.Result {
				body, err := get(host, uri)
				mu.Lock()
				defer mu.Unlock()
				uris[tn.name], got[tn.name] = uri, body
				if err != nil {
					return fsm.ResultInvalidURI
				}
				return fsm.ResultDefault
			},
		})
		devices[tn] = device
		work.Go(func() { _ = device.Run(ctx) })
	}
	time.Sleep(time.Minute)

	// Each tenant has no access to the other's records.
	for tn, other := range map[*tenant]*tenant{a: b, b: a} {
		theirs := other.name + ":1"
		var seen []string
		for d, err := range tn.mgr.Devices(ctx, store.DeviceQuery{}) {
			require.NoError(t, err)
			seen = append(seen, d.Endpoint)
		}
		require.Equal(t, []string{tn.name + ":1"}, seen)
		_, err := tn.mgr.Device(ctx, theirs)
		require.ErrorIs(t, err, store.ErrNotFound)
		require.ErrorIs(t, tn.mgr.DeleteDevice(ctx, theirs), store.ErrNotFound)
		_, known := srv.Registration(theirs)
		require.True(t, known, "it is still registered")
		_, err = tn.mgr.Start(ctx, firmware.Request{Endpoint: theirs, Image: tn.image.ID})
		bad := new(firmware.RequestError)
		require.ErrorAs(t, err, &bad)
		require.Equal(t, "endpoint", bad.Field)
		require.Empty(t, devices[other].Log(), "only its own manager writes to a device")
	}

	ids := map[*tenant]string{}
	for _, tn := range []*tenant{a, b} {
		// This tenant's writes do not clear what is known of the other's device.
		u, err := tn.mgr.Start(ctx, firmware.Request{Endpoint: tn.name + ":1", Image: tn.image.ID, Hold: fsm.Hold{Holder: "test"}})
		require.NoError(t, err)
		ids[tn] = u.ID
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	for tn, other := range map[*tenant]*tenant{a: b, b: a} {
		require.Contains(t, uris[tn.name], "/"+tn.name+"/")
		require.Equal(t, string(tn.bytes), got[tn.name])
		body, err := get("10.0.1.9", uris[tn.name])
		require.NoError(t, err)
		require.Equal(t, string(tn.bytes), body)
		// The secret of one tenant, at the path of the other.
		_, err = get("10.0.1.9", strings.Replace(uris[tn.name], "/"+tn.name+"/", "/"+other.name+"/", 1))
		require.ErrorIs(t, err, lwm2m.ErrNotFound)
		d, err := tn.db.Device(ctx, tn.name+":1")
		require.NoError(t, err)
		require.Equal(t, tn.image.SHA256, d.Firmware.Holds)
		_, err = tn.db.Device(ctx, other.name+":1")
		require.ErrorIs(t, err, store.ErrNotFound, "nothing is stored of the other's devices")
	}
	for _, tn := range []*tenant{a, b} {
		_, err := tn.mgr.Release(ctx, ids[tn], "test")
		require.NoError(t, err)
	}
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	for _, tn := range []*tenant{a, b} {
		u, err := tn.mgr.Get(ctx, ids[tn])
		require.NoError(t, err)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, tn.name)
		require.Equal(t, 1, count(devices[tn].Log(), "execute"))
		_, err = get("10.0.1.9", uris[tn.name])
		require.ErrorIs(t, err, lwm2m.ErrNotFound, "the grant has ended with the update")
	}
	cancel()
	work.Wait()
}

// TestOwnsNoMore starts a manager with an update whose endpoint now belongs to another manager: it
// leaves the device alone.
func TestOwnsNoMore(t *testing.T) {
	var owned = true
	inWorld(t, firmware.ManagerConfig{Owns: func(string) bool {
		if !owned {
			panic("a bug of the program")
		}
		return true
	}}, func(w *world) {
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		w.stop()
		owned = false
		w.start(w.db)
		device := w.device(good())
		time.Sleep(time.Hour)
		require.Empty(t, device.Log())
		u, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.OutcomeCancelled, u.Machine.Outcome)
		require.Empty(t, device.Log())
	})
}
