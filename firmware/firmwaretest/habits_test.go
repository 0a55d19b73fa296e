package firmwaretest_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

const endpoint = "sensor-1"

var (
	pkg      = lwm2m.NewPath(5, 0, 0)
	uri      = lwm2m.NewPath(5, 0, 1)
	execute  = lwm2m.NewPath(5, 0, 2)
	state    = lwm2m.NewPath(5, 0, 3)
	result   = lwm2m.NewPath(5, 0, 5)
	pkgVer   = lwm2m.NewPath(5, 0, 7)
	version  = lwm2m.NewPath(3, 0, 3)
	serverIP = netip.MustParseAddr("10.0.0.1")
	deviceIP = netip.MustParseAddr("10.0.0.2")
)

// world is a server that a scripted device is registered with, in virtual time.
type world struct {
	t      *testing.T
	net    *simnet.Network
	server *lwm2m.Server
	device *firmwaretest.Device

	mu     sync.Mutex
	events []lwm2m.Event
}

// scripted runs fn in a world with a device that follows script.
func scripted(t *testing.T, script firmwaretest.Script, fn func(w *world), options ...func(*lwm2m.ClientConfig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: simnet.New(1)}
		w.net.SetDefault(simnet.Conditions{Delay: 10 * time.Millisecond})
		w.server = lwm2mtest.Serve(t, w.net, "10.0.0.1:5683", lwm2m.ServerConfig{})
		defer w.server.Watch(func(e lwm2m.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		})()
		config := lwm2m.ClientConfig{
			Endpoint: endpoint, Server: "coap://10.0.0.1:5683",
			Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen("10.0.0.2:0") },
		}
		for _, o := range options {
			o(&config)
		}
		w.device = firmwaretest.NewDevice(config, script)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.device.Run(ctx) }()
		w.eventually(func() bool { _, ok := w.server.Registration(endpoint); return ok })
		defer func() {
			cancel()
			require.NoError(t, <-ended)
		}()
		fn(w)
	})
}

// eventually waits for something, a day at most.
func (w *world) eventually(what func() bool) {
	w.t.Helper()
	for limit := time.Now().Add(24 * time.Hour); !what(); <-time.After(50 * time.Millisecond) {
		require.True(w.t, time.Now().Before(limit), "waited in vain")
	}
}

func (w *world) read(path lwm2m.Path) (lwm2m.Value, error) {
	entries, err := w.server.Read(w.t.Context(), endpoint, path)
	if err != nil {
		return lwm2m.Value{}, err
	}
	require.Len(w.t, entries, 1)
	return entries[0].Value, nil
}

// shows waits until the device says a State and a Result.
func (w *world) shows(s fsm.State, r fsm.Result) {
	w.t.Helper()
	w.eventually(func() bool {
		gotState, err1 := w.read(state)
		gotResult, err2 := w.read(result)
		return err1 == nil && err2 == nil && gotState == lwm2m.Integer(int64(s)) && gotResult == lwm2m.Integer(int64(r))
	})
}

func (w *world) write(path lwm2m.Path, v lwm2m.Value) error {
	return w.server.WriteValue(w.t.Context(), endpoint, path, v)
}

func (w *world) execute() error { return w.server.Execute(w.t.Context(), endpoint, execute, "") }

func (w *world) links() string {
	r, _ := w.server.Registration(endpoint)
	return r.Links
}

// happened returns how often an event has happened.
func (w *world) happened(kind lwm2m.EventKind) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func requireCode(t testing.TB, err error, code lwm2m.Code) {
	t.Helper()
	re, ok := errors.AsType[*lwm2m.ResponseError](err)
	require.True(t, ok, "%v is no answer", err)
	require.Equal(t, code, re.Code)
}

func TestPlainUpdate(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", PullTime: time.Minute, PkgVersion: "2", Install: firmwaretest.Install{Version: "2", BootTime: time.Second},
	}
	scripted(t, script, func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		w.shows(fsm.Downloading, fsm.ResultDefault)
		w.shows(fsm.Downloaded, fsm.ResultDefault)
		v, err := w.read(pkgVer)
		require.NoError(w.t, err)
		require.Equal(w.t, lwm2m.String("2"), v)
		require.NoError(w.t, w.execute())
		w.shows(fsm.Idle, fsm.ResultSuccess)
		v, err = w.read(version)
		require.NoError(w.t, err)
		require.Equal(w.t, lwm2m.String("2"), v)
		require.Equal(w.t, []string{"uri coap://host/fw", "execute"}, w.device.Log())
	})
}

// TestStateFirst: the pause between State and Result ends with the life of the device.
func TestStateFirst(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", Pull: func(context.Context, string) fsm.Result { return fsm.ResultInvalidURI },
		Habits: firmwaretest.Habits{StateFirst: time.Minute},
	}
	scripted(t, script, func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		w.shows(fsm.Idle, fsm.ResultDefault)
		w.shows(fsm.Idle, fsm.ResultInvalidURI)
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		<-time.After(time.Second)
		w.device.Restart(time.Second)
		<-time.After(5 * time.Minute)
		w.shows(fsm.Idle, fsm.ResultDefault)
	})
}

func TestSilent(t *testing.T) {
	for _, queue := range []bool{false, true} {
		script := firmwaretest.Script{Version: "1", Install: firmwaretest.Install{Version: "2", Silent: true}}
		scripted(t, script, func(w *world) {
			require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
			w.shows(fsm.Downloaded, fsm.ResultDefault)
			require.NoError(w.t, w.execute())
			<-time.After(time.Minute)
			r, ok := w.server.Registration(endpoint)
			require.True(w.t, ok, "it said no farewell")
			require.Equal(w.t, queue, r.Queue)
			require.Zero(w.t, w.happened(lwm2m.EventExpired))
			<-time.After(24 * time.Hour)
			require.Equal(w.t, 1, w.happened(lwm2m.EventRegistered))
			require.Equal(w.t, 1, w.happened(lwm2m.EventExpired))
		}, func(c *lwm2m.ClientConfig) { c.Queue = queue })
	}
}

func TestListing(t *testing.T) {
	tests := map[string]struct {
		listing  firmwaretest.Listing
		has, not []string
		at       lwm2m.Path // where the State is; the root if nowhere
	}{
		"instance": {firmwaretest.ListsInstance, []string{"</5>;ver=1.1", "</5/0>"}, nil, state},
		"nothing":  {firmwaretest.ListsNothing, nil, []string{"</5"}, lwm2m.Path{}},
		"other":    {firmwaretest.ListsOtherInstance, []string{"</5/1>"}, []string{"</5/0>"}, lwm2m.NewPath(5, 1, 3)},
		"advanced": {firmwaretest.ListsAdvanced, []string{"</33629/0>"}, []string{"</5"}, lwm2m.NewPath(33629, 0, 3)},
		"object":   {firmwaretest.ListsNoInstance, []string{"</5>"}, []string{"</5/"}, state},
		"resource": {firmwaretest.ListsResources, []string{"</5/0/3>", "</5/0/5>"}, []string{"</5>", "</5/0>"}, state},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			script := firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Listing: tc.listing}}
			scripted(t, script, func(w *world) {
				for _, link := range tc.has {
					require.Contains(w.t, w.links(), link)
				}
				for _, link := range tc.not {
					require.NotContains(w.t, w.links(), link)
				}
				require.Contains(w.t, w.links(), "</3/0>")
				if tc.at != state {
					_, err := w.read(state)
					require.ErrorIs(w.t, err, lwm2m.ErrNotFound)
				}
				if !tc.at.IsRoot() {
					_, err := w.read(tc.at)
					require.NoError(w.t, err)
				}
			})
		})
	}
}

// TestListingWorks updates the objects that are elsewhere.
func TestListingWorks(t *testing.T) {
	for listing, object := range map[firmwaretest.Listing]lwm2m.Path{
		firmwaretest.ListsOtherInstance: lwm2m.NewPath(5, 1), firmwaretest.ListsAdvanced: lwm2m.NewPath(33629, 0),
	} {
		script := firmwaretest.Script{
			Version: "1", Install: firmwaretest.Install{Version: "2"}, Habits: firmwaretest.Habits{Listing: listing},
		}
		scripted(t, script, func(w *world) {
			at := func(resource uint16) lwm2m.Path { return lwm2m.NewPath(object.Object(), object.Instance(), resource) }
			require.NoError(w.t, w.write(at(1), lwm2m.String("coap://host/fw")))
			<-time.After(time.Second)
			require.NoError(w.t, w.server.Execute(w.t.Context(), endpoint, at(2), ""))
			w.eventually(func() bool { v, err := w.read(version); return err == nil && v == lwm2m.String("2") })
		})
	}
}

func TestUnreadable(t *testing.T) {
	for _, code := range []lwm2m.Code{lwm2m.CodeNotFound, lwm2m.CodeMethodNotAllowed} {
		scripted(t, firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Unreadable: code}}, func(w *world) {
			require.Contains(w.t, w.links(), "</5/0>")
			for _, path := range []lwm2m.Path{state, result, lwm2m.NewPath(5, 0)} {
				_, err := w.server.Read(w.t.Context(), endpoint, path)
				requireCode(w.t, err, code)
			}
		})
	}
}

func TestLosesObject(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", Install: firmwaretest.Install{Version: "2", RollsBack: time.Hour},
		Habits: firmwaretest.Habits{LosesObject: true},
	}
	scripted(t, script, func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		w.shows(fsm.Downloaded, fsm.ResultDefault)
		require.NoError(w.t, w.execute())
		w.eventually(func() bool { v, err := w.read(version); return err == nil && v == lwm2m.String("2") })
		require.NotContains(w.t, w.links(), "</5")
		_, err := w.read(state)
		require.ErrorIs(w.t, err, lwm2m.ErrNotFound)
		w.shows(fsm.Idle, fsm.ResultUpdateFailed)
		require.Contains(w.t, w.links(), "</5/0>")
	})
}

func TestAppears(t *testing.T) {
	script := firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Appears: 10 * time.Minute}}
	scripted(t, script, func(w *world) {
		require.NotContains(w.t, w.links(), "</5")
		_, err := w.read(state)
		require.ErrorIs(w.t, err, lwm2m.ErrNotFound)
		<-time.After(9 * time.Minute)
		require.NotContains(w.t, w.links(), "</5")
		<-time.After(2 * time.Minute)
		require.Contains(w.t, w.links(), "</5/0>")
		w.shows(fsm.Idle, fsm.ResultDefault)
		require.Equal(w.t, 1, w.happened(lwm2m.EventRegistered), "by an Update")
	})
}

func TestForeignRefuses(t *testing.T) {
	for _, refusal := range []lwm2m.Code{0, lwm2m.CodeMethodNotAllowed} {
		foreign := &firmwaretest.Foreign{Version: "666", Name: "other", PkgVersion: "1.1.0", Refusal: refusal}
		want := refusal
		if want == 0 {
			want = lwm2m.CodeBadRequest
		}
		script := firmwaretest.Script{
			Version: "1", Install: firmwaretest.Install{Version: "2"}, Habits: firmwaretest.Habits{Foreign: foreign},
		}
		scripted(t, script, func(w *world) {
			w.shows(fsm.Downloaded, fsm.ResultDefault)
			v, err := w.read(pkgVer)
			require.NoError(w.t, err)
			require.Equal(w.t, lwm2m.String("1.1.0"), v)
			requireCode(w.t, w.write(uri, lwm2m.String("coap://host/fw")), want)
			requireCode(w.t, w.write(pkg, lwm2m.Opaque(make([]byte, 3000))), want)
			w.shows(fsm.Downloaded, fsm.ResultDefault)
			require.NoError(w.t, w.execute())
			w.shows(fsm.Idle, fsm.ResultSuccess)
			require.Equal(w.t, "666", w.device.Version())
			// From here on it is a device like any other.
			require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
			w.shows(fsm.Downloaded, fsm.ResultDefault)
			_, err = w.read(pkgVer)
			require.ErrorIs(w.t, err, lwm2m.ErrNotFound)
			require.NoError(w.t, w.execute())
			w.eventually(func() bool { return w.device.Version() == "2" })
		})
	}
}

func TestForeignReset(t *testing.T) {
	resets := map[string]func(w *world) error{
		"URI":    func(w *world) error { return w.write(uri, lwm2m.String("")) },
		"NUL":    func(w *world) error { return w.write(pkg, lwm2m.Opaque([]byte{0})) },
		"cancel": func(w *world) error { return w.server.Execute(w.t.Context(), endpoint, lwm2m.NewPath(5, 0, 10), "") },
	}
	for name, reset := range resets {
		t.Run(name, func(t *testing.T) {
			script := firmwaretest.Script{
				Version: "1", Install: firmwaretest.Install{Version: "2"},
				Habits: firmwaretest.Habits{Foreign: &firmwaretest.Foreign{Version: "666", PkgVersion: "666"}},
			}
			scripted(t, script, func(w *world) {
				require.NoError(w.t, reset(w))
				w.eventually(func() bool { v, err := w.read(state); return err == nil && v == lwm2m.Integer(0) })
				require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
				w.shows(fsm.Downloaded, fsm.ResultDefault)
				require.NoError(w.t, w.execute())
				w.eventually(func() bool { return w.device.Version() == "2" })
			})
		})
	}
}

func TestForeignIgnoresURI(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", Install: firmwaretest.Install{Version: "2"},
		Habits: firmwaretest.Habits{Foreign: &firmwaretest.Foreign{Version: "666", URI: firmwaretest.IgnoresURI}},
	}
	scripted(t, script, func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		<-time.After(time.Hour)
		w.shows(fsm.Downloaded, fsm.ResultDefault)
		v, err := w.read(uri)
		require.NoError(w.t, err)
		require.Equal(w.t, lwm2m.String("coap://host/fw"), v)
		require.NoError(w.t, w.execute())
		w.eventually(func() bool { return w.device.Version() == "666" })
	})
}

func TestForeignTakesURI(t *testing.T) {
	for _, failure := range []fsm.Result{fsm.ResultDefault, fsm.ResultInvalidURI} {
		var fetched []string
		script := firmwaretest.Script{
			Version: "1", PkgVersion: "2", Install: firmwaretest.Install{Version: "2"},
			Pull: func(_ context.Context, uri string) fsm.Result {
				<-time.After(time.Minute)
				fetched = append(fetched, uri)
				return failure
			},
			Habits: firmwaretest.Habits{Foreign: &firmwaretest.Foreign{Version: "666", PkgVersion: "666", URI: firmwaretest.TakesURI}},
		}
		scripted(t, script, func(w *world) {
			require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
			for range 30 {
				<-time.After(3 * time.Second)
				v, err := w.read(state)
				require.NoError(w.t, err)
				require.Equal(w.t, lwm2m.Integer(2), v)
			}
			require.Equal(w.t, []string{"coap://host/fw"}, fetched)
			w.shows(fsm.Downloaded, failure)
			want := "2"
			if failure != fsm.ResultDefault {
				want = "666"
			}
			v, err := w.read(pkgVer)
			require.NoError(w.t, err)
			require.Equal(w.t, lwm2m.String(want), v)
			require.NoError(w.t, w.execute())
			w.eventually(func() bool { return w.device.Version() == want })
		})
	}
}

func TestNonsense(t *testing.T) {
	for _, v := range []lwm2m.Value{lwm2m.Integer(43), lwm2m.Integer(-1), lwm2m.Integer(99), lwm2m.String("yes"), lwm2m.Boolean(true)} {
		script := firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Nonsense: firmwaretest.Nonsense{
			Values: map[lwm2m.Path]lwm2m.Value{state: v, result: v},
		}}}
		scripted(t, script, func(w *world) {
			for _, path := range []lwm2m.Path{state, result} {
				got, err := w.read(path)
				switch _, number := v.Int64(); {
				case number:
					require.NoError(w.t, err)
					require.Equal(w.t, v, got)
				case err == nil: // "1" is text for true
					require.Equal(w.t, lwm2m.Integer(1), got)
				default:
					require.ErrorIs(w.t, err, lwm2m.ErrMalformed)
				}
			}
		})
	}
}

func TestNonsenseVersions(t *testing.T) {
	for name, v := range firmwaretest.OddVersions("1.1.0") {
		t.Run(name, func(t *testing.T) {
			script := firmwaretest.Script{Version: "1", PkgVersion: "x", Habits: firmwaretest.Habits{
				StartsIn: fsm.Downloaded,
				Nonsense: firmwaretest.Nonsense{Values: map[lwm2m.Path]lwm2m.Value{version: v, pkgVer: v}},
			}}
			scripted(t, script, func(w *world) {
				for _, path := range []lwm2m.Path{version, pkgVer} {
					got, err := w.read(path)
					if name == "bytes" {
						require.ErrorIs(w.t, err, lwm2m.ErrMalformed)
						continue
					}
					if name == "opaque" { // its format is another
						continue
					}
					require.NoError(w.t, err)
					want, _ := v.Text()
					if name == "a number" {
						want = "1"
					}
					text, _ := got.Text()
					require.Equal(w.t, want, text)
				}
			})
		})
	}
	require.Len(t, must(firmwaretest.OddVersions("1.1.0")["905 bytes"].Text()), 905)
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("not ok")
	}
	return v
}

// TestNonsenseEmpty looks at the answers themselves.
func TestNonsenseEmpty(t *testing.T) {
	tests := map[string]struct {
		nonsense firmwaretest.Nonsense
		tail     []byte // after the token
	}{
		"no content": {firmwaretest.Nonsense{NoContent: []lwm2m.Path{state, version}}, nil},
		"empty pack": {firmwaretest.Nonsense{EmptyPack: []lwm2m.Path{state, version}}, []byte{0xc1, 112, 0xff, 0x80}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			script := firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Nonsense: tc.nonsense}}
			scripted(t, script, func(w *world) {
				var tails [][]byte
				w.net.Tap(func(p simnet.Packet) {
					if p.From.Addr() == deviceIP && p.Data[1] == 2<<5|5 {
						tails = append(tails, slices.Clone(p.Data[4+p.Data[0]&15:]))
					}
				})
				for _, path := range []lwm2m.Path{state, version} {
					_, _ = w.server.Read(w.t.Context(), endpoint, path)
				}
				require.Len(w.t, tails, 2)
				for _, tail := range tails {
					require.Equal(w.t, string(tc.tail), string(tail))
				}
				_, err := w.read(result)
				require.NoError(w.t, err, "all else is as ever")
			})
		})
	}
}
