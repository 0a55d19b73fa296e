package firmware_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
)

// messages counts the datagrams to and from the device's own sockets from now on: requests,
// answers, acknowledgements and notifications.
func (w *world) messages() *atomic.Int64 {
	var n atomic.Int64
	w.net.Tap(func(p simnet.Packet) {
		if p.From.Addr() == deviceHost || p.To.Addr() == deviceHost {
			n.Add(1)
		}
	})
	return &n
}

// downloadHost is where the downloads of a device come from, so that they are not counted with its
// other messages.
const downloadHost = "10.0.1.9"

// TestMessages counts the messages of an update, without those of the download, for a device that
// restarts in 300 ms. A fleet has each message more a million times.
func TestMessages(t *testing.T) {
	const pulls = 16
	serve := firmware.DeliveryConfig{BaseURLs: bases(map[fsm.Protocol]string{
		fsm.ProtocolHTTP: "http://fw.example.com/fw", fsm.ProtocolCoAP: "coap://" + serverAddress + "/fw",
	})}
	for name, tt := range map[string]struct {
		request firmware.Request
		change  func(s *firmwaretest.Script)
		config  firmware.ManagerConfig
		want    []int // of one update after the other
	}{
		// The second update tries Read-Composite, and the third one knows the answer.
		"pull by HTTP": {request: firmware.Request{Protocol: fsm.ProtocolHTTP}, want: []int{pulls, pulls + 2, pulls, pulls}},
		"pull by CoAP": {request: firmware.Request{Protocol: fsm.ProtocolCoAP}, want: []int{pulls, pulls + 2, pulls}},
		"Read-Composite": {
			request: firmware.Request{Protocol: fsm.ProtocolHTTP},
			change:  func(s *firmwaretest.Script) { s.Habits.NoComposite = false },
			want:    []int{pulls, pulls - 4, pulls - 4},
		},
		// The reads at each registration have found out before.
		"Read-Composite, inventory": {
			request: firmware.Request{Protocol: fsm.ProtocolHTTP},
			change:  func(s *firmwaretest.Script) { s.Habits.NoComposite = false },
			config:  firmware.ManagerConfig{Inventory: true},
			want:    []int{pulls - 4, pulls - 4},
		},
		"no Read-Composite, inventory": {
			request: firmware.Request{Protocol: fsm.ProtocolHTTP},
			config:  firmware.ManagerConfig{Inventory: true},
			want:    []int{pulls, pulls},
		},
		// An Observe, and two notifications, with their acknowledgements.
		"pull from another server": {
			request: firmware.Request{Protocol: fsm.ProtocolHTTP},
			change:  func(s *firmwaretest.Script) { s.Pull, s.PullTime = nil, 4*time.Second },
			want:    []int{pulls + 2 + 2*2, pulls + 2 + 2*2 + 2, pulls + 2 + 2*2},
		},
		// 5000 bytes are five blocks, each with its acknowledgement, instead of the Package URI.
		"push": {request: firmware.Request{Delivery: fsm.DeliveryPush}, want: []int{pulls - 2 + 2*5, pulls - 2 + 2*5 + 2, pulls - 2 + 2*5}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorldThatServes(t, serve, tt.config, func(w *world) {
				script := firmwaretest.Script{
					Version: oldFW, Delivery: fsm.PushAndPull, Protocols: []fsm.Protocol{fsm.ProtocolHTTP, fsm.ProtocolCoAP},
					Pull: w.fetches(downloadHost), Habits: firmwaretest.Habits{NoComposite: true},
				}
				if tt.change != nil {
					tt.change(&script)
				}
				device := w.device(script)
				time.Sleep(10 * time.Second)
				n := w.messages()
				for i, want := range tt.want {
					version := fmt.Sprintf("2.%d.0", i)
					img, err := w.images.Add(w.ctx, store.Image{Name: "sensor", Version: version}, bytes.NewReader(make([]byte, w.image.Size)))
					require.NoError(t, err)
					device.SetInstall(firmwaretest.Install{Version: version, Time: 100 * time.Millisecond, BootTime: 200 * time.Millisecond})
					s := w.sequence()
					r := tt.request
					r.Endpoint, r.Image = endpoint, img.ID
					u := w.update(r)
					require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u.ID))
					time.Sleep(10 * time.Second)
					require.Equal(t, want, int(n.Swap(0)), "update %d: %v", i, s.names(0))
				}
			})
		})
	}
}

// TestCompositeUnanswered: whether a client is silent about Read-Composite, or refuses it although
// it answered it before, it is read in the other way, and not asked again.
func TestCompositeUnanswered(t *testing.T) {
	for name, tt := range map[string]struct {
		before *bool // what the facts say of the device
		silent bool
	}{
		"silent":            {nil, true},
		"refuses":           {nil, false},
		"refuses after all": {new(true), false},
		"silent after all":  {new(true), true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				script := good()
				script.Habits.NoComposite = true
				if tt.silent {
					w.drops("FETCH ")
				}
				w.device(script)
				time.Sleep(10 * time.Second)
				_, err := w.db.Commit(w.ctx, store.PutFirmware{Endpoint: endpoint, Firmware: store.Firmware{
					Version: "0.9.0", Composite: tt.before, Read: time.Now().Add(-time.Second),
				}})
				require.NoError(t, err)
				s := w.sequence()
				w.ends(w.update(w.request()), fsm.OutcomeSucceeded, fsm.ReasonVersion)
				require.Equal(t, []string{"FETCH ", "GET /5/0", "GET /3/0/3"}, s.names(0)[:3])
				require.NotContains(t, s.names(1), "FETCH ")
				d, err := w.db.Device(w.ctx, endpoint)
				require.NoError(t, err)
				if tt.before == nil || !tt.silent {
					require.Equal(t, new(false), d.Firmware.Composite)
				} else { // it may have been away, so the next update tries again
					require.Nil(t, d.Firmware.Composite)
				}
			})
		})
	}
}
