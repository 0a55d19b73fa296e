package firmware_test

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// A puppet is a device whose Object 5 does nothing by itself: the test sets what it shows and how
// it answers.
type puppet struct {
	answer func(asked string) error // to "uri", "reset", "push", "pushed", "execute" and "cancel"; nil: all are accepted
	method fsm.DeliverySupport
	limit  uint32      // Size1 of its 4.13 answers; 0: none
	busy   atomic.Bool // it answers reads with 5.03

	mu      sync.Mutex
	client  *lwm2m.Client
	state   fsm.State
	result  fsm.Result
	version string
	log     []string
}

// puppet starts a device that the test moves by hand, until the test calls end.
func (w *world) puppet(p *puppet) (end func()) {
	p.version = oldFW
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: endpoint, Server: "coap://" + serverAddress, Logger: testLogger(w.t, "puppet"),
		Objects: []lwm2m.Object{p, puppetBody{p}},
		Listen: func(context.Context) (net.PacketConn, error) {
			conn, err := w.net.Listen(deviceHost.String() + ":0")
			return limited{conn, p.limit}, err
		},
	})
	require.NoError(w.t, err)
	p.client = client
	ctx, cancel := context.WithCancel(w.ctx)
	w.devices.Go(func() { _ = p.client.Run(ctx) })
	return cancel
}

// limited is a socket that adds Size1, the largest body accepted, to 4.13 answers.
type limited struct {
	net.PacketConn
	limit uint32
}

func (l limited) WriteTo(b []byte, to net.Addr) (int, error) {
	if l.limit > 0 && len(b) >= 4 && b[1] == byte(lwm2m.CodeTooLarge) {
		short := slices.Clone(b[:4+b[0]&15])
		short = append(short, 0xd4, 60-13) // Size1, of 4 bytes
		if _, err := l.PacketConn.WriteTo(binary.BigEndian.AppendUint32(short, l.limit), to); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return l.PacketConn.WriteTo(b, to)
}

// show sets the device's State and Result.
func (p *puppet) show(state fsm.State, result fsm.Result) {
	p.mu.Lock()
	p.state, p.result = state, result
	p.mu.Unlock()
	p.client.Notify(lwm2m.NewPath(5, 0, 5))
	p.client.Notify(lwm2m.NewPath(5, 0, 3))
}

// answers sets the function that answers from now on.
func (p *puppet) answers(answer func(asked string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// asked counts the requests of a kind that the device got.
func (p *puppet) asked(what string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.log {
		if line == what {
			n++
		}
	}
	return n
}

func (p *puppet) ask(what string) error {
	p.mu.Lock()
	p.log = append(p.log, what)
	answer := p.answer
	p.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(what)
}

func (p *puppet) ID() uint16          { return 5 }
func (p *puppet) Version() string     { return "1.1" }
func (p *puppet) Instances() []uint16 { return []uint16{0} }

func (p *puppet) Read(_ context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	if p.busy.Load() {
		return nil, lwm2m.ErrUnavailable
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []lwm2m.Entry{
		{Path: lwm2m.NewPath(5, 0, 3), Value: lwm2m.Integer(int64(p.state))},
		{Path: lwm2m.NewPath(5, 0, 5), Value: lwm2m.Integer(int64(p.result))},
		{Path: lwm2m.NewPath(5, 0, 9), Value: lwm2m.Integer(int64(p.method))},
	}
	all = slices.DeleteFunc(all, func(e lwm2m.Entry) bool { return !path.Contains(e.Path) })
	if len(all) == 0 {
		return nil, lwm2m.ErrNotFound
	}
	return all, nil
}

func (p *puppet) Write(_ context.Context, _ lwm2m.Path, entries []lwm2m.Entry, _ bool) error {
	if uri, _ := entries[0].Value.Text(); uri != "" {
		return p.ask("uri")
	}
	return p.ask("reset")
}

func (p *puppet) Execute(_ context.Context, path lwm2m.Path, _ string) error {
	if path.Resource() == 10 {
		return p.ask("cancel")
	}
	return p.ask("execute")
}

// OpenWrite asks for "push" at the first block, and the sink for "pushed" at the last one.
func (p *puppet) OpenWrite(context.Context, lwm2m.Path, int64) (lwm2m.Sink, error) {
	if err := p.ask("push"); err != nil {
		return nil, err
	}
	return puppetSink{p}, nil
}

type puppetSink struct{ *puppet }

func (puppetSink) Write(b []byte) (int, error)    { return len(b), nil }
func (s puppetSink) Commit(context.Context) error { return s.ask("pushed") }
func (puppetSink) Abort(error)                    {}

// puppetBody is Object 3.
type puppetBody struct{ p *puppet }

func (puppetBody) ID() uint16          { return 3 }
func (puppetBody) Version() string     { return "" }
func (puppetBody) Instances() []uint16 { return []uint16{0} }

func (b puppetBody) Read(context.Context, lwm2m.Path) ([]lwm2m.Entry, error) {
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	return []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 3), Value: lwm2m.String(b.p.version)}}, nil
}

func (puppetBody) Write(context.Context, lwm2m.Path, []lwm2m.Entry, bool) error {
	return lwm2m.ErrMethodNotAllowed
}
func (puppetBody) Execute(context.Context, lwm2m.Path, string) error {
	return lwm2m.ErrMethodNotAllowed
}

// TestPuppet moves a device by hand through an update.
func TestPuppet(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		p := &puppet{}
		end := w.puppet(p)
		u := w.begin(w.request())
		w.phase(u.ID, fsm.PhaseTransferring)
		p.show(fsm.Downloading, fsm.ResultDefault)
		p.show(fsm.Downloaded, fsm.ResultDefault)
		w.phase(u.ID, fsm.PhaseExecuting)
		p.mu.Lock()
		p.version = newFW
		p.mu.Unlock()
		p.show(fsm.Idle, fsm.ResultSuccess)
		w.ends(w.wait(u.ID, 10*60e9), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Equal(t, 1, p.asked("execute"))
		end()
	})
}
