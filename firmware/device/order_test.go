package device

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// A diary records what a device does, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
	times map[string]time.Time // last time of each line
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	d.lines = append(d.lines, line)
	d.times[line] = time.Now()
}

// take returns and removes the lines.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

// noted is an installer that keeps a diary.
type noted struct {
	Installer
	diary *diary
}

func (n noted) SaveState(ctx context.Context, record []byte) error {
	var o fsm.Object
	if err := json.Unmarshal(record, &o); err != nil {
		return err
	}
	n.diary.note("begins to save %s", o.State)
	<-time.After(3 * time.Second)
	err := n.Installer.SaveState(ctx, record)
	n.diary.note("has saved %s", o.State)
	return err
}

func (n noted) Apply(ctx context.Context) (bool, error) {
	n.diary.note("installs")
	return n.Installer.Apply(ctx)
}

// notedConn is a socket of a device that keeps a diary.
type notedConn struct {
	net.PacketConn
	diary *diary
}

func (c notedConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) >= 4 {
		switch kind, code := b[0]>>4&3, lwm2m.ResponseCode(b[1]); {
		case code == lwm2m.ResponseCode(fsm.CodeChanged):
			c.diary.note("has answered")
		case code == 2<<5+5 && kind != 2: // a 2.05 that is no acknowledgement: a notification
			c.diary.note("notifies")
		}
	}
	return c.PacketConn.WriteTo(b, to)
}

// TestOrderOfAnswers: the effect of a request is durable before its answer or a notification is
// sent. An installation, which may end in a restart, begins only after the answer. Disk and network
// are slow, so that a wrong order shows.
func TestOrderOfAnswers(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const delay = 200 * time.Millisecond
		network := simnet.New(1)
		network.SetDefault(simnet.Conditions{Delay: delay})
		server := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{})
		slots, err := OpenSlots(dir, SlotConfig{Inspect: inspectTest, Version: "1.0"})
		require.NoError(t, err)
		defer slots.Close()
		diary := &diary{times: map[string]time.Time{}}
		device, err := New(noted{slots, diary}, Config{})
		require.NoError(t, err)
		client, err := lwm2m.NewClient(lwm2m.ClientConfig{
			Endpoint: "device", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{device.Object()},
			Listen: func(context.Context) (net.PacketConn, error) {
				conn, err := network.Listen("10.0.1.1:0")
				return notedConn{conn, diary}, err
			},
		})
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- client.Run(t.Context()) }()
		require.NoError(t, client.WaitRegistered(t.Context()))
		<-time.After(time.Minute)
		for _, path := range []lwm2m.Path{pathState, pathResult} {
			_, err := server.Observe(t.Context(), "device", path, func([]lwm2m.Entry) {})
			require.NoError(t, err)
		}
		diary.take()

		image := testImage("2.0", 100)
		require.NoError(t, server.WriteStream(t.Context(), "device", pathPackage, bytes.NewReader(image), int64(len(image))))
		<-time.After(time.Minute)
		lines := diary.take()
		require.Less(t, slices.Index(lines, "has saved downloading"), slices.Index(lines, "has answered"), "%v", lines)
		require.Less(t, slices.Index(lines, "has saved downloading"), slices.Index(lines, "notifies"), "%v", lines)
		require.Contains(t, lines, "notifies")

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, server.Execute(ctx, "device", lwm2m.NewPath(5, 0, resUpdate), ""), "%v", lines)
		require.ErrorIs(t, <-ended, ErrRestart)
		lines = diary.take()
		require.Equal(t, "begins to save updating", lines[0])
		require.Equal(t, "has saved updating", lines[1], "before anything else")
		answered := slices.Index(lines, "has answered")
		require.Positive(t, answered, "%v", lines)
		require.Less(t, answered, slices.Index(lines, "installs"), "%v", lines)
		// The answer is a separate response, which the server acknowledges.
		require.GreaterOrEqual(t, diary.times["installs"].Sub(diary.times["has answered"]), 2*delay)
	})
}
