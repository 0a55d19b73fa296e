package lwm2m_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestFollowSlowFunction: fn blocks for one device. Its oldest values are dropped, but the last one
// of each path stays; the count says how many; other devices and other requests do not notice.
func TestFollowSlowFunction(t *testing.T) {
	var dropped atomic.Int64
	config := lwm2m.ServerConfig{Models: sensorModels(t), Hooks: lwm2m.ServerHooks{Dropped: func(what string, n int) {
		if what == lwm2m.DropNotification {
			dropped.Add(int64(n))
		}
	}}}
	inWorld(t, config, func(t *testing.T, w *world) {
		d := w.followable("</3/0>,</3303/0>")
		d.values["/3/0/3"], d.values["/3303/0/5700"] = "1.0", "0"
		w.device(func(c *lwm2m.ClientConfig) { c.Endpoint = "other" })
		release := make(chan struct{})
		var got, others followLog
		w.server.Follow(paths(t, "/3303/0/5700", "/3/0/3"), nil, func(v lwm2m.Values) {
			if v.Registration.Endpoint == "other" {
				others.add(v)
				return
			}
			<-release
			got.add(v)
		})
		time.Sleep(time.Second)
		d.set("/3/0/3", "2.0")
		for i := range 50 {
			d.set("/3303/0/5700", strconv.Itoa(i))
		}
		require.Equal(t, "2.0", w.read("/3/0/3"))
		require.Equal(t, []string{"first /3/0/3 1.0.0"}, others.texts())
		close(release)
		synctest.Wait()
		lost, last, texts := 0, map[string]string{}, 0
		for _, v := range got.values() {
			lost += v.Dropped
			texts++
			last[v.Entries[0].Path.String()] = v.Entries[0].Value.String()
		}
		require.Equal(t, map[string]string{"/3/0/3": "2.0", "/3303/0/5700": "49"}, last)
		require.Equal(t, 53, texts+lost)
		require.EqualValues(t, lost, dropped.Load())
		require.Equal(t, 17, texts)
		d.set("/3303/0/5700", "50")
		all := got.values()
		require.Zero(t, all[len(all)-1].Dropped)
	})
}

// TestFollowWildFunctions: fn and selects panic, end their goroutine, or call the server. The next
// values come all the same.
func TestFollowWildFunctions(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		d := w.followable("</3303/0>")
		d.values["/3303/0/5700"] = "0"
		var got followLog
		w.server.Follow([]lwm2m.Path{sensorValue}, func(r lwm2m.Registration) bool {
			if r.Endpoint == "mad" {
				panic("no device")
			}
			_, err := w.server.Read(t.Context(), r.Endpoint, sensorValue)
			return err == nil
		}, func(v lwm2m.Values) {
			switch v.Entries[0].Value.String() {
			case "1":
				panic("one")
			case "2":
				runtime.Goexit()
			case "3":
				_, err := w.server.Read(t.Context(), endpointName, sensorValue)
				require.NoError(t, err)
			}
			got.add(v)
		})
		time.Sleep(time.Second)
		for _, v := range []string{"1", "2", "3", "4"} {
			d.set("/3303/0/5700", v)
		}
		require.Equal(t, []string{"first /3303/0/5700 0", "notify /3303/0/5700 3", "notify /3303/0/5700 4"}, got.texts())
		w.device(func(c *lwm2m.ClientConfig) {
			c.Endpoint, c.Models, c.Objects = "mad", sensorModels(t), append(c.Objects, &sensor{})
		})
		time.Sleep(time.Second)
		require.Empty(t, got.texts())
	})
}

// TestFollowStop: fn stops its Follow; stop comes while a request is under way, and while selects
// and fn block.
func TestFollowStop(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>")
		d.values["/3/0/9"] = "80"
		var got followLog
		stops := make(chan func(), 1)
		stops <- w.server.Follow(paths(t, "/3/0/9"), nil, func(v lwm2m.Values) {
			(<-stops)()
			got.add(v)
		})
		time.Sleep(time.Second)
		require.Len(t, got.texts(), 1)
		require.Zero(t, d.observed("/3/0/9"))
		d.set("/3/0/9", "81")
		require.Empty(t, got.texts())

		// During a request.
		w.net.SetDefault(simnetDelay(500 * time.Millisecond))
		stop := w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		time.Sleep(700 * time.Millisecond)
		require.Equal(t, 1, d.observed("/3/0/9"))
		stop()
		time.Sleep(3 * time.Second)
		require.Empty(t, got.texts())
		require.Zero(t, d.observed("/3/0/9"))

		// While selects blocks, and while fn does.
		w.net.SetDefault(simnetDelay(0))
		release := make(chan struct{})
		stop = w.server.Follow(paths(t, "/3/0/9"), func(lwm2m.Registration) bool { <-release; return true }, got.add)
		stopOther := w.server.Follow(paths(t, "/3/0/9"), nil, func(lwm2m.Values) { <-release })
		time.Sleep(time.Second)
		d.set("/3/0/9", "82")
		stop()
		stopOther()
		time.Sleep(time.Second)
		require.Zero(t, d.observed("/3/0/9"))
		d.requests()
		close(release)
		time.Sleep(time.Second)
		require.Empty(t, d.requests())
		require.Empty(t, got.texts())
	})
}

// TestFollowSelects: selects decides at each Register and Update, and the server observes nothing
// before it has.
func TestFollowSelects(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>")
		d.values["/3/0/9"] = "80"
		var want atomic.Bool
		var asked atomic.Int64
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), func(r lwm2m.Registration) bool {
			require.Equal(t, "</3/0>", r.Links)
			asked.Add(1)
			return want.Load()
		}, got.add)
		time.Sleep(time.Second)
		d.update("")
		require.Empty(t, d.requests())
		want.Store(true)
		d.update("")
		require.Equal(t, []string{"first /3/0/9 80"}, got.texts())
		d.update("")
		require.Equal(t, []string{"observe /3/0/9"}, d.requests())
		want.Store(false)
		d.update("")
		require.Equal(t, []string{"cancel /3/0/9"}, d.requests())
		want.Store(true)
		d.register("</3/0>")
		require.Equal(t, []string{"observe /3/0/9"}, d.requests())
		require.EqualValues(t, 6, asked.Load())
	})
}

// TestFollowSends: fn gets the entries of Sends at and below its paths, with their times; with the
// root among the paths, all of them.
func TestFollowSends(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>,</3303/0>")
		var some, all, none followLog
		w.server.Follow(paths(t, "/3303", "/3/0/9"), nil, some.add)
		w.server.Follow(paths(t, "/"), nil, all.add)
		w.server.Follow(paths(t, "/"), func(lwm2m.Registration) bool { return false }, none.add)
		time.Sleep(time.Second)
		d.requests()
		d.send(`[{"bn":"/3303/0/5700","bt":1700000000,"v":1.5},{"t":60,"v":2.5},{"n":"/3/0/9","bn":"","v":80},{"n":"/3/0/10","v":1}]`)
		require.Empty(t, d.requests())
		require.Equal(t, []string{"send /3303/0/5700 1.5", "send /3303/0/5700 2.5", "send /3/0/9 80"}, some.texts())
		v := all.values()[0]
		require.Len(t, v.Entries, 4)
		require.Equal(t, time.Unix(1_700_000_060, 0).UTC(), v.Entries[1].Time.UTC())
		require.True(t, v.Path.IsRoot())
		require.Equal(t, time.Now().Add(-time.Second).UTC(), v.Registration.LastSeen)
		require.Empty(t, none.texts())
		all.texts()

		d.send(`[{"n":"/3/0/10","v":1}]`)
		require.Empty(t, some.texts())
		all.values()[0].Entries[0] = lwm2m.Entry{} // they are the function's own
		d.send(`[{"n":"/3303/0/5701","vs":"Cel"}]`)
		require.Equal(t, []string{"send /3303/0/5701 Cel"}, some.texts())
	})
}

// send sends values as SenML JSON.
func (d *followable) send(body string) {
	d.w.t.Helper()
	resp, err := d.endpoint.Do(context.Background(), d.server, &coap.Request{
		Code: coap.POST, Path: []string{"dp"}, ContentFormat: coap.FormatOf(110), Payload: []byte(body),
	})
	require.NoError(d.w.t, err)
	require.Equal(d.w.t, coap.Changed, resp.Code)
	time.Sleep(time.Second)
}

// TestFollowLossy loses, repeats and reorders messages while devices restart: no value comes after
// a newer one of the same run of a device, and the last one always comes.
func TestFollowLossy(t *testing.T) {
	config := lwm2m.ServerConfig{Models: sensorModels(t), Registrations: &memoryStore{}}
	inWorld(t, config, func(t *testing.T, w *world) {
		link := lossy // every second datagram arrives: a device may forget an observation that fails five times
		link.Loss, link.Drop = 0, func(p simnet.Packet) bool { return p.Seq%2 == 1 && rand.Float64() < 0.12 }
		w.net.SetDefault(link)
		const devices = 10
		var got followLog
		w.server.Follow([]lwm2m.Path{sensorValue, lwm2m.NewPath(3, 0, 3)}, nil, got.add)
		sensors := make([]*sensor, devices)
		for i := range devices {
			sensors[i] = &sensor{}
		}
		value := 0.0
		for round := range 4 {
			clients, stops := make([]*lwm2m.Client, devices), make([]func(), devices)
			for i := range devices {
				clients[i], stops[i] = w.deviceStop(func(c *lwm2m.ClientConfig) {
					c.Endpoint, c.Models, c.Objects, c.Lifetime = strconv.Itoa(i), sensorModels(t), append(c.Objects, sensors[i]), 2*time.Minute
					c.Listen = func(context.Context) (net.PacketConn, error) { return w.net.Listen(fmt.Sprintf("10.0.1.%d:0", i+1)) }
				})
			}
			if round == 2 {
				time.Sleep(time.Minute)
				w.stop()
				w.start(config)
				w.server.Follow([]lwm2m.Path{sensorValue, lwm2m.NewPath(3, 0, 3)}, nil, got.add)
			}
			for range 60 {
				value++
				for i := range devices {
					sensors[i].set(value)
					clients[i].Notify(sensorValue)
				}
				time.Sleep(5 * time.Second)
			}
			time.Sleep(10 * time.Minute)
			for i := range devices {
				var all []float64
				for _, v := range got.values() {
					if v.Registration.Endpoint == strconv.Itoa(i) && v.Path == sensorValue {
						f, _ := v.Entries[0].Value.Float64()
						all = append(all, f)
					}
				}
				require.True(t, slices.IsSorted(all), all)
				require.Equal(t, value, all[len(all)-1])
			}
			for i := range devices {
				stops[i]()
			}
			got.texts()
		}
	})
}
