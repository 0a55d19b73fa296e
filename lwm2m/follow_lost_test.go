package lwm2m_test

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestFollowSixteenPaths: fn blocks, and an Update makes a question for selects wait too. The last
// value of each of 16 paths arrives.
func TestFollowSixteenPaths(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>")
		var all []string
		want := map[string]string{}
		for i := range 16 {
			path := fmt.Sprintf("/3/0/%d", 100+i)
			all = append(all, path)
			d.mu.Lock()
			d.values[path], want[path] = "old", "new"
			d.mu.Unlock()
		}
		var got followLog
		release := make(chan struct{})
		w.server.Follow(paths(t, all...), func(lwm2m.Registration) bool { return true }, func(v lwm2m.Values) {
			<-release
			got.add(v)
		})
		time.Sleep(time.Minute)
		d.update("")
		for _, path := range all {
			d.set(path, "new")
		}
		close(release)
		last := map[string]string{}
		for _, v := range got.values() {
			last[v.Entries[0].Path.String()] = v.Entries[0].Value.String()
		}
		require.Equal(t, want, last)
	})
}

// TestFollowGarbage: values that cannot be decoded come as an error, the present ones too, with the
// count of those that were dropped before. The observation goes on.
func TestFollowGarbage(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>")
		d.mu.Lock()
		d.values["/3/0/9"] = "\xff"
		d.mu.Unlock()
		var got followLog
		release := make(chan struct{})
		w.server.Follow(paths(t, "/3/0/9"), nil, func(v lwm2m.Values) {
			<-release
			got.add(v)
		})
		time.Sleep(time.Second)
		for i := range 17 { // the first of them is dropped
			value := fmt.Sprint(i)
			if i == 1 {
				value = "\xff"
			}
			d.set("/3/0/9", value)
		}
		close(release)
		all := got.values()
		require.Len(t, all, 17)
		dropped := 0
		for i, v := range all {
			dropped += v.Dropped
			require.Equal(t, i == 0, v.First)
			if i < 2 {
				require.Error(t, v.Err)
				require.Empty(t, v.Entries)
				continue
			}
			require.NoError(t, v.Err)
			require.Equal(t, fmt.Sprint(i), v.Entries[0].Value.String())
		}
		require.Equal(t, 1, dropped)
	})
}

// TestFollowFlappingDevice: a device answers each Observe, and ends the observation at once. The
// pauses grow all the same, and its Updates shorten only the first of them.
func TestFollowFlappingDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>", "lt=86400")
		d.script(func(r *coap.IncomingRequest) *coap.Response {
			if v, ok := r.Observe(); !ok || v != 0 {
				return nil
			}
			o := r.Accept()
			time.AfterFunc(100*time.Millisecond, func() { o.Notify(&coap.Response{Code: coap.ServiceUnavailable}, false) })
			return content(0, "80")
		})
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		time.Sleep(3 * time.Hour)
		require.Less(t, len(d.requests()), 20)
		for range 60 {
			d.update("")
		}
		require.LessOrEqual(t, len(d.requests()), 1)

		// A notification ends the series of failures.
		d.script(nil)
		d.mu.Lock()
		d.values["/3/0/9"] = "80"
		d.mu.Unlock()
		time.Sleep(time.Hour)
		d.set("/3/0/9", "81")
		d.mu.Lock()
		o := d.observers["/3/0/9"][0]
		d.mu.Unlock()
		d.requests()
		o.Notify(&coap.Response{Code: coap.ServiceUnavailable}, false)
		time.Sleep(31 * time.Second)
		require.Equal(t, []string{"observe /3/0/9"}, d.requests())
	})
}

// TestFollowSleeperWithoutObservation: the server has restarted, or the program has ended its
// observation, while a device in queue mode sleeps. Its next notification is rejected; its value
// arrives, as the server then observes again and does not wait for an Update.
func TestFollowSleeperWithoutObservation(t *testing.T) {
	var config lwm2m.ServerConfig
	for name, lose := range map[string]func(t *testing.T, w *world, follow func()){
		"restart": func(_ *testing.T, w *world, follow func()) {
			w.stop()
			w.start(config)
			follow()
		},
		"program's": func(t *testing.T, w *world, _ func()) {
			o, err := w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(3, 0, 9), nil)
			require.NoError(t, err)
			time.Sleep(5 * time.Minute)
			require.NoError(t, o.Cancel(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			config = lwm2m.ServerConfig{Registrations: &memoryStore{}}
			inWorld(t, config, func(t *testing.T, w *world) {
				d := w.followable("</3/0>", "b=UQ", "lt=86400")
				d.mu.Lock()
				d.values["/3/0/9"] = "80"
				d.mu.Unlock()
				var got followLog
				follow := func() { w.server.Follow(paths(t, "/3/0/9"), nil, got.add) }
				follow()
				time.Sleep(time.Second)
				lose(t, w, follow)
				time.Sleep(5 * time.Minute)
				got.texts()
				// A request that waits for the device goes to it then.
				done := make(chan error, 1)
				w.server.Go(lwm2m.Request{Endpoint: endpointName, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(3, 0, 9)},
					func(a lwm2m.Answer) { done <- a.Err })
				d.set("/3/0/9", "81")
				require.Equal(t, []string{"first /3/0/9 81"}, got.texts())
				require.NoError(t, <-done)
				d.set("/3/0/9", "82")
				require.Equal(t, []string{"notify /3/0/9 82"}, got.texts())
			})
		})
	}
}

// TestFollowForgedNotification: notifications with the address of a sleeping device, sent by
// others, do not count as contact, and cause few requests.
func TestFollowForgedNotification(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>", "b=UQ", "lt=86400")
		time.Sleep(5 * time.Minute)
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		executed := make(chan error, 1)
		w.server.Go(lwm2m.Request{Endpoint: endpointName, Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3, 0, 4)},
			func(a lwm2m.Answer) { executed <- a.Err })
		w.net.SetLink(serverIP, deviceIP, simnet.Conditions{Drop: func(simnet.Packet) bool { return true }})
		var sent atomic.Int64
		w.net.Tap(func(p simnet.Packet) {
			if p.Lost && p.Data[1] == byte(coap.GET) {
				sent.Add(1)
			}
		})
		before, _ := w.server.Registration(endpointName)
		for i := range 3600 {
			w.net.Forge(before.Address, netip.MustParseAddrPort(serverAddress),
				[]byte{0x51, byte(coap.Content), byte(i >> 8), byte(i), 0x77, 0x61, 1, 0xff, 'x'})
			time.Sleep(time.Second)
		}
		after, _ := w.server.Registration(endpointName)
		require.Equal(t, before.LastSeen, after.LastSeen)
		require.Empty(t, executed)
		require.Empty(t, got.texts())
		require.Positive(t, sent.Load())
		require.LessOrEqual(t, sent.Load(), int64(5*9))

		// The device wakes: the Execute does not wait for an Observe that a forged message caused.
		w.net.SetLink(serverIP, deviceIP, simnet.Conditions{})
		w.unheard(true)
		time.Sleep(time.Hour)
		w.net.Forge(before.Address, netip.MustParseAddrPort(serverAddress), []byte{0x51, byte(coap.Content), 99, 99, 0x77, 0x61, 1, 0xff, 'x'})
		time.Sleep(time.Second)
		d.update("")
		time.Sleep(2 * time.Second)
		require.Len(t, executed, 1)
	})
}
