package firmware_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// TestPoisonedRequests makes invalid requests. The manager refuses them and stores nothing of them,
// and the store can still be listed.
func TestPoisonedRequests(t *testing.T) {
	year := 366 * 24 * time.Hour
	requests := map[string]func(*firmware.Request){
		"delivery":          func(r *firmware.Request) { r.Delivery = "carrier pigeon" },
		"delivery in caps":  func(r *firmware.Request) { r.Delivery = "PUSH" },
		"delivery by name":  func(r *firmware.Request) { r.Delivery = "auto" },
		"protocol":          func(r *firmware.Request) { r.Protocol = "gopher" },
		"protocol in caps":  func(r *firmware.Request) { r.Protocol = "COAP" },
		"protocol by name":  func(r *firmware.Request) { r.Protocol = "auto" },
		"protocol, a byte":  func(r *firmware.Request) { r.Protocol = "\xff" },
		"verify":            func(r *firmware.Request) { r.Verify = "not at all" },
		"negative deadline": func(r *firmware.Request) { r.Deadline = -time.Nanosecond },
		"least deadline":    func(r *firmware.Request) { r.Deadline = -1 << 63 },
		"long deadline":     func(r *firmware.Request) { r.Deadline = year },
		"longest deadline":  func(r *firmware.Request) { r.Deadline = 1<<63 - 1 },
		"attempts":          func(r *firmware.Request) { r.Attempts = -1 },
		"many attempts":     func(r *firmware.Request) { r.Attempts = 101 },
		"profile":           func(r *firmware.Request) { r.Profile = "\x00" },
		"long profile":      func(r *firmware.Request) { r.Profile = strings.Repeat("x", 1<<20) },
		"holder":            func(r *firmware.Request) { r.Hold.Reason = "why" },
		"hold of the past":  func(r *firmware.Request) { r.Hold = fsm.Hold{Holder: "op", Until: time.Unix(0, 0)} },
		"hold without end": func(r *firmware.Request) {
			r.Hold = fsm.Hold{Holder: "op", Until: time.Date(1e6, 1, 1, 0, 0, 0, 0, time.UTC)}
		},
		"hold of a moment": func(r *firmware.Request) { r.Hold = fsm.Hold{Since: time.Unix(0, 0)} },
		"endpoint":         func(r *firmware.Request) { r.Endpoint = "" },
		"endpoint, a byte": func(r *firmware.Request) { r.Endpoint = "\xff" },
		"key":              func(r *firmware.Request) { r.Key = "\n" },
		"image":            func(r *firmware.Request) { r.Image = "" },
	}
	poisoned := func(t *testing.T, config firmware.ManagerConfig, change func(*firmware.Request)) {
		inWorld(t, config, func(w *world) {
			r := w.request()
			change(&r)
			_, err := w.mgr.Start(w.ctx, r)
			var bad *firmware.RequestError
			require.ErrorAs(t, err, &bad)
			require.NotEmpty(t, bad.Field)
			require.Less(t, len(bad.Error()), 300)
			for u, err := range w.mgr.List(w.ctx, store.UpdateQuery{}) {
				require.NoError(t, err)
				require.Fail(t, "something was stored", u.ID)
			}
		})
	}
	for name, change := range requests {
		t.Run(name, func(t *testing.T) { poisoned(t, firmware.ManagerConfig{}, change) })
	}
	profiles := map[string]fsm.Profile{
		"reset": {Reset: "hard"}, "delivery": {Delivery: "x"}, "protocols": {Protocols: []fsm.Protocol{"x"}},
		"no protocol": {Protocols: []fsm.Protocol{""}}, "many": {Protocols: make([]fsm.Protocol, 1000)},
		"name": {Name: strings.Repeat("x", 256)}, "a byte": {Name: "\xff"}, "grace": {WriteGrace: -1}, "long grace": {WriteGrace: year},
	}
	configs := map[string]firmware.ManagerConfig{}
	for name, profile := range profiles {
		configs["profile "+name] = firmware.ManagerConfig{Profiles: map[string]fsm.Profile{"mine": profile}}
	}
	for name, config := range map[string]firmware.ManagerConfig{
		"waiting": {Limits: fsm.Limits{Waiting: -1}}, "preparing": {Limits: fsm.Limits{Preparing: year}},
		"transferring": {Limits: fsm.Limits{Transferring: -1 << 63}}, "transferred": {Limits: fsm.Limits{Transferred: -1}},
		"executing": {Limits: fsm.Limits{Executing: year}}, "restarting": {Limits: fsm.Limits{Restarting: 1<<63 - 1}},
		"verifying": {Limits: fsm.Limits{Verifying: -1}}, "settle": {Limits: fsm.Limits{Settle: -1}},
		"retry": {Limits: fsm.Limits{Retry: 1<<63 - 1}}, "poll": {Limits: fsm.Limits{Poll: -1}}, "defer": {Limits: fsm.Limits{Defer: year}},
		"deadline": {Deadline: -1}, "long deadline": {Deadline: 1<<63 - 1}, "attempts": {Attempts: -1}, "many attempts": {Attempts: math.MaxInt},
	} {
		configs[name] = config
	}
	db := memory.New()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	for name, config := range configs {
		srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
		require.NoError(t, err)
		_, err = firmware.NewManager(srv, db, images, config)
		require.Regexp(t, `^firmware: ManagerConfig\.[A-Za-z.]+: `, err.Error(), name)
	}
}
