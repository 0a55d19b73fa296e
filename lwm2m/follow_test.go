package lwm2m_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// followLog collects what a Follow reports.
type followLog struct {
	mu  sync.Mutex
	all []lwm2m.Values
}

func (l *followLog) add(v lwm2m.Values) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, v)
}

// how says how values came.
func how(v lwm2m.Values) string {
	switch {
	case v.Send:
		return "send"
	case v.First:
		return "first"
	default:
		return "notify"
	}
}

// values returns the Values since the last call of texts.
func (l *followLog) values() []lwm2m.Values {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// texts returns how values came since the last call, their paths and the values.
func (l *followLog) texts() (all []string) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.all {
		for _, e := range v.Entries {
			all = append(all, how(v)+" "+e.Path.String()+" "+e.Value.String())
		}
	}
	l.all = nil
	return all
}

// followable is a device in the style of Zephyr: resources that are text, and one observation for
// each path, unless many is set. Its answers can be scripted.
type followable struct {
	*foreignDevice
	w    *world
	id   string
	many bool

	mu        sync.Mutex
	values    map[string]string
	answer    func(*coap.IncomingRequest) *coap.Response // nil: the default
	observers map[string][]*coap.Observer
	asked     []string // observe and cancel with paths
}

func (w *world) followable(links string, queries ...string) *followable {
	w.t.Helper()
	d := &followable{w: w, values: map[string]string{}, observers: map[string][]*coap.Observer{}}
	d.foreignDevice = w.foreign(links, queries, d.handle)
	r, _ := w.server.Registration(endpointName)
	d.id = r.ID
	time.Sleep(2 * time.Second) // the server has started
	return d
}

func (d *followable) handle(r *coap.IncomingRequest) *coap.Response {
	d.mu.Lock()
	answer := d.answer
	v, watches := r.Observe()
	if watches {
		d.asked = append(d.asked, []string{"observe ", "cancel "}[v]+r.Path())
	}
	d.mu.Unlock()
	if answer != nil {
		if resp := answer(r); resp != nil {
			return resp
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	path := r.Path()
	value, ok := d.values[path]
	if !ok {
		return &coap.Response{Code: coap.NotFound}
	}
	if watches && !d.many || watches && v == 1 {
		d.forget(path)
	}
	if o := r.Accept(); o != nil {
		d.observers[path] = append(d.observers[path], o)
	}
	return content(0, value)
}

// forget ends the observations of a path. d.mu is held.
func (d *followable) forget(path string) {
	for _, o := range d.observers[path] {
		o.Forget()
	}
	delete(d.observers, path)
}

// set changes a value and notifies.
func (d *followable) set(path, value string) {
	synctest.Wait()
	d.mu.Lock()
	d.values[path] = value
	observers := d.observers[path]
	d.mu.Unlock()
	for _, o := range observers {
		o.Notify(content(0, value), false)
	}
	time.Sleep(time.Second)
}

// observed returns how many observations of a path last.
func (d *followable) observed(path string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.observers[path] {
		select {
		case <-o.Done():
		default:
			n++
		}
	}
	return n
}

// requests returns the requests for observations since the last call.
func (d *followable) requests() (asked []string) {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	asked, d.asked = d.asked, nil
	return asked
}

func (d *followable) script(answer func(*coap.IncomingRequest) *coap.Response) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = answer
}

// update sends an Update, with a list of objects if it is not "".
func (d *followable) update(links string) {
	d.w.t.Helper()
	r := &coap.Request{Code: coap.POST, Path: []string{"rd", d.id}}
	if links != "" {
		r.ContentFormat, r.Payload = coap.FormatOf(40), []byte(links)
	}
	resp, err := d.endpoint.Do(context.Background(), d.server, r)
	require.NoError(d.w.t, err)
	require.Equal(d.w.t, coap.Changed, resp.Code)
	time.Sleep(time.Second)
}

// register sends another Register.
func (d *followable) register(links string) {
	d.w.t.Helper()
	d.mu.Lock()
	for path := range d.observers {
		d.forget(path)
	}
	d.mu.Unlock()
	resp, err := d.endpoint.Do(context.Background(), d.server, &coap.Request{
		Code: coap.POST, Path: []string{"rd"}, Queries: []string{"ep=" + endpointName, "lt=3600"},
		ContentFormat: coap.FormatOf(40), Payload: []byte(links),
	})
	require.NoError(d.w.t, err)
	require.Equal(d.w.t, coap.Created, resp.Code)
	r, _ := d.w.server.Registration(endpointName)
	d.id = r.ID
	time.Sleep(time.Second)
}

// unheard loses the server's requests for observations.
func (w *world) unheard(yes bool) {
	var c simnet.Conditions
	if yes {
		c.Drop = func(p simnet.Packet) bool {
			token := int(p.Data[0] & 0xf)
			return p.Data[1] == 1 && len(p.Data) > 4+token && p.Data[4+token] == 0x60 // GET with Observe: 0
		}
	}
	w.net.SetLink(serverIP, deviceIP, c)
}

func paths(t *testing.T, all ...string) (paths []lwm2m.Path) {
	for _, p := range all {
		paths = append(paths, mustPath(t, p))
	}
	return paths
}

// always answers with one code.
func always(code coap.Code) func(*coap.IncomingRequest) *coap.Response {
	return func(*coap.IncomingRequest) *coap.Response { return &coap.Response{Code: code} }
}

func TestFollow(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		var got followLog
		stop := w.server.Follow(paths(t, "/3303/0/5700", "/5/0/3"), nil, got.add)
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"first /3303/0/5700 0"}, got.texts())
		change(1)
		require.Equal(t, []string{"notify /3303/0/5700 1"}, got.texts())
		stop()
		stop()
		change(2)
		require.Empty(t, got.texts())
	})
}

// TestFollowSurvives: the observations are there again after each Register, move, restart of the
// server and other end.
func TestFollowSurvives(t *testing.T) {
	config := lwm2m.ServerConfig{Registrations: &memoryStore{}, Models: sensorModels(t)}
	inWorld(t, config, func(t *testing.T, w *world) {
		var got followLog
		s := &sensor{}
		var last atomic.Pointer[simnet.Conn]
		start := func() (change func(float64), stop func()) {
			client, stop := w.deviceStop(func(c *lwm2m.ClientConfig) {
				c.Models, c.Objects, c.Lifetime = sensorModels(t), append(c.Objects, s), time.Minute
				listen := c.Listen
				c.Listen = func(ctx context.Context) (conn net.PacketConn, err error) {
					conn, err = listen(ctx)
					last.Store(conn.(*simnet.Conn))
					return conn, err
				}
			})
			return func(v float64) {
				s.set(v)
				client.Notify(sensorValue)
				time.Sleep(time.Second)
			}, stop
		}
		follow := func() { w.server.Follow([]lwm2m.Path{sensorValue}, nil, got.add) }
		follow()
		change, stop := start()
		time.Sleep(2 * time.Second)
		works := func(from, to float64) {
			t.Helper()
			require.Equal(t, []string{fmt.Sprint("first /3303/0/5700 ", from)}, got.texts())
			change(to)
			require.Equal(t, []string{fmt.Sprint("notify /3303/0/5700 ", to)}, got.texts())
		}
		works(0, 1)

		// The device restarts, with and without a De-register.
		stop()
		require.Empty(t, got.texts())
		change, stop = start()
		time.Sleep(2 * time.Second)
		works(1, 2)
		w.cut(true)
		stop()
		w.cut(false)
		change, _ = start()
		time.Sleep(2 * time.Second)
		works(2, 4)

		// Its NAT gives it another address.
		last.Load().Rebind(netip.MustParseAddrPort("10.0.0.9:4000"))
		time.Sleep(time.Minute)
		works(4, 5)

		// Its registration expires, and it comes back.
		w.cut(true)
		w.net.Partition(serverIP, netip.MustParseAddrPort("10.0.0.9:0").Addr(), true)
		time.Sleep(10 * time.Minute)
		require.False(t, w.server.Registered(endpointName))
		w.net.Partition(serverIP, netip.MustParseAddrPort("10.0.0.9:0").Addr(), false)
		w.cut(false)
		time.Sleep(10 * time.Minute)
		require.True(t, w.server.Registered(endpointName))
		works(5, 6)

		// The server restarts: the device notices nothing.
		r, _ := w.server.Registration(endpointName)
		w.stop()
		w.start(config)
		follow()
		time.Sleep(3 * time.Second)
		works(6, 7)
		again, _ := w.server.Registration(endpointName)
		require.Equal(t, r.ID, again.ID)

		// The operator deletes it, and it registers again.
		require.NoError(t, w.server.DeleteDevice(t.Context(), endpointName))
		time.Sleep(2 * time.Minute)
		works(7, 8)
	})
}

// TestFollowIsThereBeforeTheServerServes: the server is configured before it serves and loads its
// registrations.
func TestFollowIsThereBeforeTheServerServes(t *testing.T) {
	store := &memoryStore{}
	inWorld(t, lwm2m.ServerConfig{Registrations: store}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>")
		d.values["/3/0/9"] = "80"
		w.stop()
		var got followLog
		w.server = lwm2m.MustServer(lwm2m.ServerConfig{Registrations: store})
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		time.Sleep(time.Minute)
		require.Empty(t, d.requests())
		conn, err := w.net.Listen(serverAddress)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.server.ServePacket(ctx, conn) }()
		defer func() {
			cancel()
			require.NoError(t, <-done)
		}()
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"first /3/0/9 80"}, got.texts())
	})
}

// TestFollowOnlyWhatIsListed: the list of objects decides which paths are observed, and changes of
// the list change that.
func TestFollowOnlyWhatIsListed(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>,</5>,</3303/1>")
		for _, p := range []string{"/3/0/9", "/3303/0/5700", "/3303/1/5700"} {
			d.values[p] = "7"
		}
		var got followLog
		w.server.Follow(paths(t, "/3303/0/5700", "/3/0/9", "/3303/1/5700", "/5/0/3", "/3304/0/5700", "/", "/3/0/9"), nil, got.add)
		time.Sleep(time.Second)
		require.Equal(t, []string{"observe /3/0/9", "observe /3303/1/5700", "observe /5/0/3"}, sorted(d.requests()))
		require.Len(t, got.texts(), 2)

		d.update("")
		d.update("</3/0>,</5>,</3303/1>")
		require.Empty(t, d.requests(), "nothing has changed, and 4.04 is not tried again")
		d.update("</3/0>,</5/0>,</3303/0>")
		require.Equal(t, []string{"cancel /3303/1/5700", "observe /3303/0/5700", "observe /5/0/3"}, sorted(d.requests()))
		d.set("/3303/1/5700", "8")
		d.set("/3303/0/5700", "9")
		require.Equal(t, []string{"first /3303/0/5700 7", "notify /3303/0/5700 9"}, got.texts())
	})
}

// TestFollowRefusals: a device that refuses for good is not asked again before it registers, one
// that fails for a while is, after longer and longer pauses.
func TestFollowRefusals(t *testing.T) {
	for code, again := range map[coap.Code]bool{
		coap.BadRequest: false, coap.Unauthorized: false, coap.NotFound: false, coap.MethodNotAllowed: false, coap.NotAcceptable: false,
		coap.NotImplemented: false, coap.RequestEntityIncomplete: true, coap.InternalServerError: true, coap.TooManyRequests: true,
		coap.ServiceUnavailable: true,
	} {
		t.Run(code.String(), func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				d := w.followable("</3/0>")
				d.values["/3/0/9"] = "80"
				d.script(always(code))
				var got followLog
				w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
				time.Sleep(10 * time.Minute)
				first := len(d.requests())
				time.Sleep(40 * time.Minute)
				require.Equal(t, again, len(d.requests()) > 0)
				require.Less(t, first, 25)
				d.script(nil)
				if again {
					d.update("")
					time.Sleep(time.Hour)
				} else {
					d.update("")
					require.Empty(t, got.texts())
					d.register("</3/0>")
				}
				time.Sleep(time.Second)
				require.Equal(t, []string{"first /3/0/9 80"}, got.texts())
			})
		})
	}
}

// TestFollowSilentDevice: a device answers no Observe. The pauses between tries grow, and its
// Updates shorten only the first of them.
func TestFollowSilentDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>", "lt=86400")
		d.values["/3/0/9"] = "80"
		w.unheard(true)
		var sent atomic.Int64
		w.net.Tap(func(p simnet.Packet) {
			if p.Lost {
				sent.Add(1)
			}
		})
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		var tries []int64
		for range 10 {
			sent.Store(0)
			time.Sleep(time.Hour)
			tries = append(tries, sent.Load()/5) // five messages each
		}
		require.Greater(t, tries[0], int64(4))
		require.LessOrEqual(t, tries[9], int64(2))
		require.Positive(t, tries[8]+tries[9])
		sent.Store(0)
		for range 100 {
			d.update("")
		}
		require.LessOrEqual(t, sent.Load(), int64(5))
		w.unheard(false)
		time.Sleep(time.Hour)
		require.Equal(t, []string{"first /3/0/9 80"}, got.texts())
	})
}

// TestFollowAfterFailure: a device that failed, and sends an Update, is asked at once.
func TestFollowAfterFailure(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>")
		d.values["/3/0/9"] = "80"
		d.script(always(coap.InternalServerError))
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		time.Sleep(time.Second)
		d.script(nil)
		require.Empty(t, got.texts())
		d.update("")
		require.Equal(t, []string{"first /3/0/9 80"}, got.texts())
	})
}

// TestFollowGivesWay: a request of the program does not wait for an Observe that the device does
// not answer.
func TestFollowGivesWay(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>", "lt=86400")
		d.values["/3/0/9"], d.values["/3/0/3"] = "80", "1.0"
		w.unheard(true)
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		time.Sleep(time.Second)
		begin := time.Now()
		require.Equal(t, "1.0", w.read("/3/0/3"))
		require.Less(t, time.Since(begin), 2*time.Second)
		w.unheard(false)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"first /3/0/9 80"}, got.texts())
	})
}

// TestFollowWaitsForTheProgram: no Observe goes to a device between the requests of a stream.
func TestFollowWaitsForTheProgram(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.net.SetDefault(simnetDelay(100 * time.Millisecond))
		d := w.followable("</3/0>,</5/0>")
		d.values["/3/0/9"] = "80"
		d.script(func(r *coap.IncomingRequest) *coap.Response {
			if r.Code == coap.PUT {
				return &coap.Response{Code: coap.Changed}
			}
			return nil
		})
		done := make(chan error, 1)
		w.server.Go(lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0),
			Body: strings.NewReader(strings.Repeat("x", 20_000)), Size: 20_000,
		}, func(a lwm2m.Answer) { done <- a.Err })
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		require.NoError(t, <-done)
		require.Empty(t, d.requests())
		time.Sleep(time.Second)
		require.Equal(t, []string{"first /3/0/9 80"}, got.texts())
	})
}

// TestFollowUnobserved: a device answers without observing. Its values arrive, and it is asked
// again.
func TestFollowUnobserved(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.foreign("</3/0>", nil, func(*coap.IncomingRequest) *coap.Response { return content(0, "80") })
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		time.Sleep(2 * time.Minute)
		all := got.texts()
		require.Contains(t, []int{2, 3, 4}, len(all))
		require.Equal(t, "first /3/0/9 80", all[1])
	})
}

// TestFollowForgetfulDevice: a device forgets its observations without registering again. Its
// Update after an hour of silence, or a day in queue mode, makes the server observe again.
func TestFollowForgetfulDevice(t *testing.T) {
	for _, test := range []struct {
		query string
		after time.Duration
	}{{"b=U", time.Hour}, {"b=UQ", 24 * time.Hour}} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			d := w.followable("</3/0>", test.query, "lt=864000")
			d.values["/3/0/9"] = "80"
			var got followLog
			w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
			time.Sleep(time.Second)
			require.Len(t, got.texts(), 1)
			d.mu.Lock()
			d.forget("/3/0/9")
			d.mu.Unlock()
			d.requests()
			time.Sleep(test.after - time.Minute)
			d.update("")
			d.set("/3/0/9", "90")
			require.Empty(t, d.requests())
			time.Sleep(time.Minute)
			d.update("")
			require.Equal(t, []string{"cancel /3/0/9", "observe /3/0/9"}, d.requests())
			require.Equal(t, []string{"first /3/0/9 90"}, got.texts())
			time.Sleep(test.after / 2)
			d.set("/3/0/9", "91")
			time.Sleep(test.after - time.Minute)
			d.update("")
			require.Empty(t, d.requests(), "it was not silent that long")
		})
	}
}

// TestFollowSleeper: a device in queue mode is asked when it is awake.
func TestFollowSleeper(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>", "b=UQ")
		d.values["/3/0/9"] = "80"
		time.Sleep(2 * time.Minute)
		var got followLog
		stop := w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		time.Sleep(5 * time.Minute)
		require.Empty(t, d.requests())
		d.update("")
		require.Equal(t, []string{"first /3/0/9 80"}, got.texts())
		time.Sleep(2 * time.Minute)
		d.set("/3/0/9", "81")
		require.Equal(t, []string{"notify /3/0/9 81"}, got.texts(), "it wakes itself")

		// A second Follow waits for it too; the first one gets all notifications meanwhile.
		time.Sleep(2 * time.Minute)
		var second followLog
		stopSecond := w.server.Follow(paths(t, "/3/0/9"), nil, second.add)
		d.requests()
		d.set("/3/0/9", "82")
		require.Equal(t, []string{"cancel /3/0/9", "observe /3/0/9"}, d.requests())
		require.Equal(t, []string{"notify /3/0/9 82", "first /3/0/9 82"}, got.texts())
		require.Equal(t, []string{"notify /3/0/9 82", "first /3/0/9 82"}, second.texts())

		// The device ends the observation when its next notification is rejected.
		time.Sleep(2 * time.Minute)
		stop()
		stopSecond()
		d.set("/3/0/9", "83")
		require.Zero(t, d.observed("/3/0/9"))
		require.Empty(t, append(got.texts(), second.texts()...))
	})
}

// TestFollowTwice: two Follows of a path share one observation, which lasts while one of them needs
// it.
func TestFollowTwice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>")
		d.many = true
		d.values["/3/0/9"], d.values["/3/0"] = "80", ""
		var a, b, c followLog
		stopA := w.server.Follow(paths(t, "/3/0/9", "/3/0/9"), nil, a.add)
		time.Sleep(time.Second)
		stopB := w.server.Follow(paths(t, "/3/0/9"), nil, b.add)
		time.Sleep(time.Second)
		stopC := w.server.Follow(paths(t, "/3/0", "/3/0/9"), nil, c.add)
		time.Sleep(time.Second)
		require.Equal(t, []string{"observe /3/0/9", "cancel /3/0/9", "observe /3/0/9", "observe /3/0"}, d.requests())
		require.Equal(t, []string{"first /3/0/9 80", "first /3/0/9 80"}, a.texts())
		require.Equal(t, []string{"first /3/0/9 80"}, b.texts())
		require.Empty(t, c.texts(), "the instance is observed as a whole")
		stopA()
		d.set("/3/0/9", "81")
		require.Empty(t, a.texts())
		require.Equal(t, []string{"notify /3/0/9 81"}, b.texts())
		stopB()
		time.Sleep(time.Second)
		require.Equal(t, []string{"cancel /3/0/9"}, d.requests())
		stopC()
		time.Sleep(time.Second)
		require.Equal(t, []string{"cancel /3/0"}, d.requests())
	})
}

// TestFollowBesideObserve: the program observes the same path, on a device that keeps one
// observation for each path. Both get the values, also after the program has ended its observation.
func TestFollowBesideObserve(t *testing.T) {
	for _, many := range []bool{false, true} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			d := w.followable("</5/0>")
			d.many = many
			d.values["/5/0/3"] = "0"
			var got followLog
			w.server.Follow(paths(t, "/5/0/3"), nil, got.add)
			time.Sleep(time.Second)
			require.Equal(t, []string{"first /5/0/3 0"}, got.texts())
			var own values
			o, err := w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(5, 0, 3), own.add)
			require.NoError(t, err)
			d.set("/5/0/3", "1")
			require.Equal(t, []string{"0", "1"}, own.texts())
			require.Equal(t, []string{"first /5/0/3 0", "notify /5/0/3 1"}, got.texts())
			require.Equal(t, 1, d.observed("/5/0/3"))
			require.NoError(t, o.Cancel(t.Context()))
			time.Sleep(time.Second)
			d.set("/5/0/3", "2")
			require.Equal(t, []string{"first /5/0/3 1", "notify /5/0/3 2"}, got.texts())
			require.Empty(t, own.texts())
			require.Equal(t, 1, d.observed("/5/0/3"))
		})
	}
}

// TestFollowEndsWithANotification: the device ends the observation by an error. It is asked again
// if the error can pass.
func TestFollowEndsWithANotification(t *testing.T) {
	for code, again := range map[coap.Code]bool{coap.NotFound: false, coap.ServiceUnavailable: true} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			d := w.followable("</3/0>")
			d.values["/3/0/9"] = "80"
			var got followLog
			w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
			time.Sleep(time.Second)
			d.requests()
			d.mu.Lock()
			o := d.observers["/3/0/9"][0]
			d.mu.Unlock()
			o.Notify(&coap.Response{Code: code}, false)
			time.Sleep(10 * time.Second)
			require.Empty(t, d.requests())
			time.Sleep(time.Minute)
			require.Equal(t, again, len(d.requests()) == 1)
		})
	}
}
