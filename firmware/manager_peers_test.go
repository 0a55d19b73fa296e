package firmware_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// The tests of this file cover what was found with other projects' clients: Anjay's demo and
// Leshan's.

// anjay is a device with the habits of Anjay's demo client.
func anjay() firmwaretest.Script {
	return firmwaretest.Script{
		Version: oldFW, Delivery: fsm.PushAndPull, Protocols: []fsm.Protocol{fsm.ProtocolCoAP}, PullTime: time.Second,
		Install: firmwaretest.Install{Version: newFW, BootTime: time.Second},
		Habits:  firmwaretest.Habits{HidesDownloading: true, LocksInPush: true},
	}
}

// losing is a socket that loses the datagrams for which lose returns true.
type losing struct {
	net.PacketConn
	lose func(datagram []byte) bool
}

func (l losing) WriteTo(p []byte, to net.Addr) (int, error) {
	if l.lose(p) {
		return len(p), nil
	}
	return l.PacketConn.WriteTo(p, to)
}

// deviceThatLoses starts a device some of whose datagrams are lost.
func (w *world) deviceThatLoses(script firmwaretest.Script, lose func(datagram []byte) bool) *firmwaretest.Device {
	d := firmwaretest.NewDevice(lwm2m.ClientConfig{
		Endpoint: endpoint, Server: "coap://" + serverAddress, Logger: testLogger(w.t, "device"),
		Listen: func(context.Context) (net.PacketConn, error) {
			conn, err := w.net.Listen("10.0.1.1:0")
			if err != nil {
				return nil, err
			}
			return losing{conn, lose}, nil
		},
	}, script)
	w.devices.Go(func() { _ = d.Run(w.ctx) })
	return d
}

// The second octets of datagrams: 2.31 Continue and 2.04 Changed.
const (
	codeContinue = 2<<5 | 31
	codeChanged  = 2<<5 | 4
)

// nth returns a function that loses the nth datagram with a code, and records when.
func nth(n int64, code byte) (lose func([]byte) bool, lost *atomic.Pointer[time.Time]) {
	var seen atomic.Int64
	lost = new(atomic.Pointer[time.Time])
	return func(p []byte) bool {
		if len(p) < 4 || p[1] != code || seen.Add(1) != n {
			return false
		}
		lost.Store(new(time.Now()))
		return true
	}, lost
}

// TestPushToDeviceThatLocks: an answer is lost, the block is repeated, and the device is busy for
// five minutes. The journal says so soon, and the package arrives nevertheless.
func TestPushToDeviceThatLocks(t *testing.T) {
	for _, test := range []struct {
		name  string
		block int64
	}{{"first block", 1}, {"third block", 3}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				lose, lost := nth(test.block, codeContinue)
				device := w.deviceThatLoses(anjay(), lose)
				u := w.update(w.request())
				t.Log("\n" + w.journal(u.ID))
				require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome)
				require.Equal(t, 2, u.Machine.Attempt)
				require.Equal(t, 1, count(device.Log(), "execute"))
				require.NotNil(t, lost.Load())
				busy := w.find(u.ID, firmware.EventDeviceBusy)
				require.Less(t, busy.Time.Sub(*lost.Load()), 30*time.Second)
				require.Contains(t, busy.Detail, "5.03")
			})
		})
	}
}

// find returns the first entry of an update's journal with a name.
func (w *world) find(id, name string) firmware.Event {
	w.t.Helper()
	for e, err := range w.mgr.Journal(w.ctx, id) {
		require.NoError(w.t, err)
		if e.Name == name {
			return e
		}
	}
	require.Fail(w.t, "the journal has no "+name, "%s", w.journal(id))
	return firmware.Event{}
}

// TestPushWhoseLastAnswerIsLost: the device has the package, and the server must find that out.
func TestPushWhoseLastAnswerIsLost(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		lose, lost := nth(1, codeChanged)
		device := w.deviceThatLoses(anjay(), lose)
		u := w.update(w.request())
		t.Log("\n" + w.journal(u.ID))
		require.NotNil(t, lost.Load())
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome)
		require.Equal(t, 1, count(device.Log(), "execute"))
	})
}

// TestExecuteWhoseAnswerIsLost: the device installs, and gets no second Execute.
func TestExecuteWhoseAnswerIsLost(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		lose, lost := nth(2, codeChanged) // the first one answers the push
		device := w.deviceThatLoses(anjay(), lose)
		u := w.update(w.request())
		t.Log("\n" + w.journal(u.ID))
		require.NotNil(t, lost.Load())
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome)
		require.Equal(t, fsm.ReasonVersion, u.Machine.Reason)
		require.Equal(t, 1, count(device.Log(), "execute"))
		// Either the manager hears of the registration first, or of the end of the request.
		require.Regexp(t, "interrupted .*xecute|execute_unanswered", w.journal(u.ID))
	})
}

// TestCancelWhileRestarting: the device has accepted Execute, the update is cancelled, and the
// device comes back with the new version.
func TestCancelWhileRestarting(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		script := anjay()
		script.Install.BootTime = 20 * time.Second
		w.device(script)
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		for !w.executed(u.ID) {
			time.Sleep(100 * time.Millisecond)
		}
		u, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.MayStillInstall, u.Machine.MayStill)
		time.Sleep(time.Minute)
		u, err = w.mgr.Get(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.MayStillInstall, u.Machine.MayStill, w.journal(u.ID))
		require.Contains(t, w.find(u.ID, firmware.EventAfterEnd).Detail, `version "1.1.0"`)
	})
}

// executed reports whether the device has accepted Execute.
func (w *world) executed(id string) bool {
	return strings.Contains(w.journal(id), "the device accepted Execute")
}

// TestPushIntoSmallBuffer: the device refuses the first block for its size, and takes smaller ones.
func TestPushIntoSmallBuffer(t *testing.T) {
	for _, size := range []int{1050, 600, 150} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := anjay()
			script.Habits.Buffer = size
			device := w.device(script)
			u := w.update(w.request())
			require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u.ID))
			require.Equal(t, 1, u.Machine.Attempt, w.journal(u.ID))
			require.Equal(t, 1, count(device.Log(), "push 5000"))
		})
	}
}

// TestSameImageTwice: proofs of the first update do not count for the second.
func TestSameImageTwice(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		device := w.device(anjay())
		r := w.request()
		r.Force = true
		require.Equal(t, fsm.ReasonVersion, w.update(r).Machine.Reason)
		u := w.update(r)
		require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(u.ID))
		require.Equal(t, fsm.ReasonSameVersion, u.Machine.Reason, w.journal(u.ID))
		require.Equal(t, 2, count(device.Log(), "push 5000"))
		require.Equal(t, 2, count(device.Log(), "execute"))
	})
}

// TestStateThatDoesNotExist: the journal shows the number that the device sent. Leshan's dummy
// objects show any number.
func TestStateThatDoesNotExist(t *testing.T) {
	for sent, said := range map[int64]string{43: "state 43,", -64: "state -64,", 1 << 40: "state 1073741824,"} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := anjay()
			script.Habits.Nonsense.Values = map[lwm2m.Path]lwm2m.Value{lwm2m.NewPath(5, 0, 3): lwm2m.Integer(sent)}
			w.device(script)
			u := w.update(w.request())
			require.Equal(t, fsm.OutcomeFailed, u.Machine.Outcome)
			require.Equal(t, fsm.ReasonBadState, u.Machine.Reason)
			require.Contains(t, w.find(u.ID, firmware.EventObjectUnusable).Detail, said)
			require.Less(t, u.Machine.Ended.Sub(u.Created), 30*time.Second)
		})
	}
}

// largest is a listener that records the largest write on its connections.
type largest struct {
	net.Listener
	n *atomic.Int64
}

func (l largest) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return largestConn{conn, l.n}, nil
}

type largestConn struct {
	net.Conn
	n *atomic.Int64
}

func (c largestConn) Write(p []byte) (int, error) {
	for {
		n := c.n.Load()
		if int64(len(p)) <= n || c.n.CompareAndSwap(n, int64(len(p))) {
			return c.Conn.Write(p)
		}
	}
}

// TestPushByTCP: Anjay claims to take messages of any size, and drops those that do not fit its
// buffer of 4000 bytes.
func TestPushByTCP(t *testing.T) {
	db := memory.New()
	defer db.Close()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	image, err := images.Add(t.Context(), store.Image{Name: "sensor", Version: newFW}, bytes.NewReader(make([]byte, 100_000)))
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db), Logger: testLogger(t, "server")})
	require.NoError(t, err)
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{Logger: testLogger(t, "manager")})
	require.NoError(t, err)
	device := firmwaretest.NewDevice(lwm2m.ClientConfig{
		Endpoint: endpoint, Server: "coap+tcp://" + listener.Addr().String(), MinRetry: 20 * time.Millisecond,
		Logger: testLogger(t, "device"),
	}, firmwaretest.Script{Version: oldFW, Delivery: fsm.PushOnly, Install: firmwaretest.Install{Version: newFW}})

	ctx, cancel := context.WithCancel(t.Context())
	var write atomic.Int64
	done := make(chan error, 3)
	go func() { done <- srv.Serve(ctx, largest{listener, &write}) }()
	go func() { done <- mgr.Run(ctx) }()
	go func() { done <- device.Run(ctx) }()
	defer func() {
		cancel()
		for range cap(done) {
			<-done
		}
	}()

	u, err := mgr.Start(ctx, firmware.Request{Endpoint: endpoint, Image: image.ID})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		u, err = mgr.Get(ctx, u.ID)
		return err == nil && !u.Active()
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome)
	require.Contains(t, strings.Join(device.Log(), "\n"), "push 100000")
	require.Less(t, write.Load(), int64(1200))
	require.Greater(t, write.Load(), int64(1024))
}
