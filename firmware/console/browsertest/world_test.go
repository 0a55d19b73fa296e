package browsertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/console"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// limit is how long a test waits for what must come, on a machine that is busy.
const limit = 20 * time.Second

// world is a server with its page, and devices on a network in memory.
type world struct {
	t       *testing.T
	db      *memory.Store
	network *simnet.Network
	manager *firmware.Manager
	url     string // of the page, with a slash at its end
	api     string // of the API, without one

	mu      sync.Mutex
	handler http.Handler // nil while the server is away
	server  *httptest.Server
	hosts   int
	devices sync.WaitGroup
	ctx     context.Context
}

// settings are what tests may change of a world.
type settings struct {
	server    lwm2m.ServerConfig
	api       httpapi.Config
	authorize func(*http.Request, httpapi.Access) error
}

// newWorld starts a server whose page and API are below a prefix, such as "" or "/ops".
func newWorld(t *testing.T, prefix string, change ...func(*settings)) *world {
	t.Helper()
	chromium(t)
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, db: memory.New(), network: simnet.New(1), ctx: ctx}
	images, err := firmware.OpenRepository(t.TempDir(), w.db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	s := settings{
		server:    lwm2m.ServerConfig{Registrations: firmware.Registrations(w.db), NoSec: true},
		api:       httpapi.Config{Actor: func(*http.Request) string { return "kim" }},
		authorize: httpapi.AllowAll,
	}
	for _, f := range change {
		f(&s)
	}
	srv, err := lwm2m.NewServer(s.server)
	require.NoError(t, err)
	conn, err := w.network.Listen("10.0.0.1:5683")
	require.NoError(t, err)
	delivery, err := firmware.NewDelivery(images, firmware.DeliveryConfig{})
	require.NoError(t, err)
	srv.HandleFunc("/", delivery.ServeCoAP)
	var rollouts *rollout.Manager
	keep := func(ctx context.Context, kind store.Kind, id string) (string, error) {
		return rollouts.Keep(ctx, kind, id)
	}
	w.manager, err = firmware.NewManager(srv, w.db, images, firmware.ManagerConfig{Delivery: delivery, Inventory: true, Keep: keep})
	require.NoError(t, err)
	rollouts, err = rollout.NewManager(srv, w.manager, w.db, rollout.Config{})
	require.NoError(t, err)
	s.api.Rollouts = rollouts
	api, err := httpapi.New(w.manager, s.authorize, s.api)
	require.NoError(t, err)
	page, err := console.New(console.Config{API: prefix + "/api/v1"})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(prefix+"/api/v1/", api)
	mux.Handle(prefix+"/", http.StripPrefix(prefix, page))
	w.handler = mux
	w.server = httptest.NewServer(http.HandlerFunc(w.serve))
	w.url, w.api = w.server.URL+prefix+"/", w.server.URL+prefix+"/api/v1"

	var run sync.WaitGroup
	run.Go(func() { _ = srv.ServePacket(ctx, conn) })
	if s.server.Credentials != nil {
		secure, err := w.network.Listen("10.0.0.1:5684")
		require.NoError(t, err)
		run.Go(func() { _ = srv.ServeDTLS(ctx, secure) })
	}
	run.Go(func() { _ = w.manager.Run(ctx) })
	run.Go(func() { _ = rollouts.Run(ctx) })
	t.Cleanup(func() {
		w.server.CloseClientConnections()
		w.server.Close()
		cancel()
		w.devices.Wait()
		run.Wait()
	})
	return w
}

// serve answers as a proxy does while the server behind it is away.
func (w *world) serve(response http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	handler := w.handler
	w.mu.Unlock()
	if handler == nil {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	handler.ServeHTTP(response, r)
}

// away takes the server away, with all connections to it, and returns what brings it back.
func (w *world) away() (back func()) {
	w.mu.Lock()
	handler := w.handler
	w.handler = nil
	w.mu.Unlock()
	w.server.CloseClientConnections()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.handler = handler
	}
}

// device runs a device until the test ends.
func (w *world) device(endpoint string, script firmwaretest.Script, change ...func(*lwm2m.ClientConfig)) {
	w.t.Helper()
	if script.Version == "" {
		script.Version = "1.0.0"
	}
	if script.Device.Manufacturer == "" {
		script.Device.Manufacturer, script.Device.Model = "Acme", "S1"
	}
	w.hosts++
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(w.hosts >> 8), byte(w.hosts)}), 0)
	config := lwm2m.ClientConfig{
		Endpoint: endpoint, Server: "coap://10.0.0.1:5683", Lifetime: time.Hour,
		Listen: func(context.Context) (net.PacketConn, error) { return w.network.Listen(address.String()) },
	}
	for _, f := range change {
		f(&config)
	}
	d := firmwaretest.NewDevice(config, script)
	w.devices.Go(func() { _ = d.Run(w.ctx) })
}

// Scripts of devices that take a second or two for an update.
var (
	installs = firmwaretest.Script{
		PullTime: 300 * time.Millisecond,
		Install:  firmwaretest.Install{Version: "1.1.0", Time: 200 * time.Millisecond, BootTime: 100 * time.Millisecond},
	}
	fails = firmwaretest.Script{
		PullTime: 300 * time.Millisecond,
		Install:  firmwaretest.Install{Result: fsm.ResultIntegrityFailed, Time: 200 * time.Millisecond, NoReboot: true},
	}
	slow = firmwaretest.Script{PullTime: time.Hour}
)

// fleet runs n devices dev-000, dev-001 and so on of one script, and waits until the server has
// read them.
func (w *world) fleet(n int, script firmwaretest.Script) {
	w.t.Helper()
	first := w.hosts
	for range n {
		w.device(fmt.Sprintf("dev-%03d", w.hosts), script)
	}
	w.read(first + n)
}

// read waits until the server has read n devices.
func (w *world) read(n int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		var fleet struct {
			Versions []struct {
				Version *string
				Devices int
			}
		}
		w.get("/fleet", &fleet)
		known := 0
		for _, v := range fleet.Versions {
			if v.Version != nil {
				known += v.Devices
			}
		}
		return known >= n
	}, limit, 20*time.Millisecond, "the devices have not registered")
}

// call sends a request to the API and decodes its answer, which must have a status of 200 and more.
func (w *world) call(method, path, contentType string, body io.Reader, answer any) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.ctx, method, w.api+path, body)
	require.NoError(w.t, err)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(w.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	require.Less(w.t, response.StatusCode, 300, "%s %s: %s", method, path, data)
	if answer != nil {
		require.NoError(w.t, json.Unmarshal(data, answer), "%s", data)
	}
}

func (w *world) get(path string, answer any) {
	w.t.Helper()
	w.call(http.MethodGet, path, "", nil, answer)
}

func (w *world) post(path, body string, answer any) {
	w.t.Helper()
	w.call(http.MethodPost, path, "application/json", strings.NewReader(body), answer)
}

// image uploads an image of a version, and returns its id.
func (w *world) image(version string) string {
	w.t.Helper()
	var image struct{ ID string }
	w.call(http.MethodPost, "/images?name=sensor&version="+version, "application/octet-stream",
		bytes.NewReader([]byte(strings.Repeat("image "+version+"\n", 1000))), &image)
	return image.ID
}

// rollout makes a rollout of a body, whose fields follow the image, and returns its id.
func (w *world) rollout(image, fields string) string {
	w.t.Helper()
	var made struct{ ID string }
	w.post("/rollouts", `{"image":"`+image+`",`+fields+`}`, &made)
	return made.ID
}

// until waits until a rollout is as it should be.
func (w *world) until(id string, ok func(aRollout) bool) (r aRollout) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		r = aRollout{}
		w.get("/rollouts/"+id, &r)
		return ok(r)
	}, 2*limit, 50*time.Millisecond, "the rollout does not get there")
	return r
}

// aRollout is what tests look at of a rollout.
type aRollout struct {
	State, Reason string
	Members       map[string]int
	Concurrency   int
}
