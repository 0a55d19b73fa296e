package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/firmware/fsm"
)

// A yardstick is the least server that can update the devices with the same durability: it
// observes 5/0/3, reads 3/0/3, writes the URI, executes when the State is Downloaded, and reads
// 3/0/3 again when the device has registered. It stores that an update was requested, that the URI
// and Execute are about to be sent, and that it has succeeded. It knows nothing else: no other
// answers, no limits of time, no restart of its own, no operators.
type yardstick struct {
	dir   string
	fleet fleet
	db    *yardstickStore
	udp   *net.UDPConn
	tcp   net.Listener
	meter meter

	mu       sync.Mutex
	places   map[string]*place         // by endpoint
	peers    map[netip.AddrPort]*place // by address
	version  string
	content  []byte
	waiting  []*place // they have not begun
	begin    time.Time
	took     []time.Duration
	finished chan struct{}

	downloads atomic.Uint64
}

// place is what the yardstick knows of a device.
type place struct {
	n        int // its number, in paths of registrations and downloads
	endpoint string
	peer     netip.AddrPort
	id       uint16 // of the last request
	step     step
	request  []byte // unanswered
	sent     time.Time
}

// step is what a place waits for.
type step byte

const (
	ended step = iota
	creating
	observing
	reading
	preparing // the commit before the write
	writing
	transferring
	agreeing // the commit before Execute
	executing
	restarting
	verifying
	ending
)

// runYardstick runs the process, with the commands and answers of a server.
func runYardstick(ctx context.Context, role serverRole, c console) (err error) {
	y := &yardstick{dir: role.Dir, fleet: role.Fleet, places: map[string]*place{}, peers: map[netip.AddrPort]*place{}}
	if y.db, err = openYardstickStore(filepath.Join(role.Dir, "yardstick.db")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, y.db.close()) }()
	if y.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return err
	}
	if err := y.udp.SetReadBuffer(readBuffer); err != nil {
		return err
	}
	if y.tcp, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return err
	}
	web := &http.Server{Handler: http.HandlerFunc(y.download), ReadHeaderTimeout: time.Minute}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() {
		y.udp.Close()
		web.Close()
	})
	group.Go(func() error {
		y.read()
		return nil
	})
	group.Go(func() error {
		if err := web.Serve(y.tcp); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		y.meter.watch(ctx)
		return nil
	})
	group.Go(func() error {
		y.repeat(ctx)
		return nil
	})
	group.Go(func() error {
		defer cancel()
		return obey(ctx, c, serverReady{CoAP: y.udp.LocalAddr().String(), HTTP: y.tcp.Addr().String()}, y.do)
	})
	return group.Wait()
}

// do carries out a command.
func (y *yardstick) do(ctx context.Context, cmd command) (any, error) {
	if cmd.State {
		return stateOf(y.udp.LocalAddr(), cmd.Collect), nil
	}
	return y.campaign(ctx, *cmd.Campaign)
}

// campaign updates all devices.
func (y *yardstick) campaign(ctx context.Context, c campaign) (campaignReport, error) {
	before, commits, use := y.meter.usage(), y.db.kinds.all(), databaseUse(y.db.name())
	report := campaignReport{Version: c.Version, Live: map[string]int{}}
	y.mu.Lock()
	y.version, y.content = c.Version, newPackage(c.Version, y.fleet.Size)
	y.begin, y.took, y.finished = time.Now(), nil, make(chan struct{})
	y.waiting = slices.Collect(maps.Values(y.places))
	report.Started = len(y.places)
	for range min(yardstickUpdates, len(y.waiting)) {
		y.next()
	}
	y.mu.Unlock()
	late := time.NewTimer(c.Timeout)
	defer late.Stop()
	select {
	case <-y.finished:
	case <-late.C:
	case <-ctx.Done():
		return report, context.Cause(ctx)
	}
	report.Usage = y.meter.usage().since(before)
	report.CommitKinds = since(y.db.kinds.all(), commits)
	report.Growth = databaseUse(y.db.name()) - use
	y.mu.Lock()
	defer y.mu.Unlock()
	report.finish(y.took, y.fleet.Devices, time.Since(y.begin))
	report.Live["succeeded"] = report.Done
	report.Wrong = y.fleet.Devices - report.Done
	return report, nil
}

// store makes a step durable, and then continues. The caller holds y.mu, and so does next's.
func (y *yardstick) store(p *place, kind string, next func(*place)) {
	y.db.put(record{kind: kind, endpoint: p.endpoint, version: y.version, done: func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		next(p)
	}})
}

// yardstickUpdates is how many updates the yardstick runs at once.
const yardstickUpdates = 256

// next begins the next update.
func (y *yardstick) next() {
	if n := len(y.waiting); n > 0 {
		p := y.waiting[n-1]
		y.waiting = y.waiting[:n-1]
		p.step = creating
		y.store(p, "create", y.observe)
	}
}

func (y *yardstick) observe(p *place) {
	p.step = observing
	y.request(p, codeGET, pathState.String(), func(w *writer) { w.number(optionObserve, 0) }, "")
}

// request sends a request. Options before the path's come from before.
func (y *yardstick) request(p *place, code byte, path string, before func(*writer), body string) {
	p.id++
	var token [4]byte
	binary.BigEndian.PutUint32(token[:], uint32(p.n))
	w := newMessage(confirmable, code, p.id, token[:])
	if before != nil {
		before(w)
	}
	w.segments(optionURIPath, path)
	if body != "" {
		w.number(optionContentFormat, 0)
		w.payload([]byte(body))
	}
	p.request, p.sent = w.b, time.Now()
	_, _ = y.udp.WriteToUDPAddrPort(p.request, p.peer) // a datagram that cannot be sent is lost
}

// read takes datagrams until the socket is closed.
func (y *yardstick) read() {
	buf := make([]byte, maxDatagram)
	for {
		n, peer, err := y.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		m, err := parseMessage(buf[:n])
		if err != nil {
			continue
		}
		y.mu.Lock()
		y.receive(&m, peer, buf[:n])
		y.mu.Unlock()
	}
}

// receive takes a message.
func (y *yardstick) receive(m *message, peer netip.AddrPort, datagram []byte) {
	if m.code == codePOST && m.kind == confirmable {
		y.register(m, peer, datagram)
		return
	}
	p := y.peers[peer]
	if p == nil || m.code>>5 != 2 {
		return
	}
	if m.kind == nonConfirmable { // a notification
		y.state(p, m)
		return
	}
	if m.kind != acknowledgement || p.request == nil || m.id != p.id {
		return
	}
	p.request = nil
	switch p.step {
	case observing:
		p.step = reading
		y.request(p, codeGET, "/3/0/3", nil, "")
	case reading:
		p.step = preparing
		y.store(p, "before the write", func(p *place) {
			p.step = writing
			y.request(p, codePUT, pathPackageURI.String(), nil, "http://"+y.tcp.Addr().String()+"/fw/"+strconv.Itoa(p.n))
		})
	case writing:
		p.step = transferring
	case executing:
		p.step = restarting
	case verifying:
		if string(m.payload) != y.version {
			return
		}
		p.step = ending
		y.store(p, "end", y.end)
	}
}

// state takes a notification of State.
func (y *yardstick) state(p *place, m *message) {
	if string(m.payload) != strconv.Itoa(int(fsm.Downloaded)) || p.step != transferring && p.step != writing {
		return
	}
	p.step, p.request = agreeing, nil
	y.store(p, "before execute", func(p *place) {
		p.step = executing
		y.request(p, codePOST, pathUpdate.String(), nil, "")
	})
}

func (y *yardstick) end(p *place) {
	p.step = ended
	y.next()
	if y.took = append(y.took, time.Since(y.begin)); len(y.took) == y.fleet.Devices {
		close(y.finished)
	}
}

// register answers a Register or an Update of a registration.
func (y *yardstick) register(m *message, peer netip.AddrPort, datagram []byte) {
	if m.path != "/rd" {
		_, _ = y.udp.WriteToUDPAddrPort(newMessage(acknowledgement, codeChanged, m.id, m.token).b, peer)
		return
	}
	_, rest, _ := bytes.Cut(datagram, []byte("ep="))
	if len(rest) < endpointSize {
		return
	}
	endpoint := string(rest[:endpointSize])
	p := y.places[endpoint]
	if p == nil {
		p = &place{n: len(y.places), endpoint: endpoint}
		y.places[endpoint] = p
	}
	delete(y.peers, p.peer)
	p.peer = peer
	y.peers[peer] = p
	w := newMessage(acknowledgement, codeCreated, m.id, m.token)
	w.segments(optionLocationPath, "/rd/"+strconv.Itoa(p.n))
	_, _ = y.udp.WriteToUDPAddrPort(w.b, peer)
	if p.step == restarting || p.step == executing {
		p.step = verifying
		y.request(p, codeGET, "/3/0/3", nil, "")
	}
}

// repeat sends again what has no answer, until ctx ends.
func (y *yardstick) repeat(ctx context.Context) {
	ticker := time.NewTicker(ackTimeout)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			y.mu.Lock()
			for _, p := range y.places {
				if p.request != nil && now.Sub(p.sent) >= ackTimeout {
					p.sent = now
					_, _ = y.udp.WriteToUDPAddrPort(p.request, p.peer)
				}
			}
			y.mu.Unlock()
		}
	}
}

// download serves the package.
func (y *yardstick) download(w http.ResponseWriter, r *http.Request) {
	y.downloads.Add(1)
	if !strings.HasPrefix(r.URL.Path, "/fw/") {
		http.NotFound(w, r)
		return
	}
	y.mu.Lock()
	content := y.content
	y.mu.Unlock()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content) // the device tries again
}
