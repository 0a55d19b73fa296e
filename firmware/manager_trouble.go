package firmware

import (
	"log" //nolint:depguard // net/http wants a log.Logger for what it has to say
	"net/netip"
	"strings"

	"github.com/otago-iot/otago/firmware/fsm"
)

// maxBlamed bounds the updates that hear of a connection that failed: behind one address there may be many devices.
const maxBlamed = 16

// pulls notes that a device is given a Package URI, so that connections of its address are its own.
func (m *Manager) notePull(d *run) {
	r, _ := m.srv.Registration(d.target)
	addr := r.Address.Addr().Unmap()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetPull(d)
	if !addr.IsValid() || !m.running {
		return
	}
	if m.pulling[addr] == nil {
		m.pulling[addr] = make(map[*run]bool)
	}
	m.pulling[addr][d] = true
	d.from = addr
}

// forgetPull forgets that. m.mu is held.
func (m *Manager) forgetPull(d *run) {
	if set := m.pulling[d.from]; set != nil {
		delete(set, d)
		if len(set) == 0 {
			delete(m.pulling, d.from)
		}
	}
}

// HandshakeFailed tells the updates whose devices are at an address that a connection from there failed before it could ask
// for anything, and why: a client that does not trust the server's certificate says no more than that. The journal of an
// update that is downloading then says so. The manager hears of the server's own transports by itself; who serves downloads
// by HTTPS calls it for those, or gives the http.Server the logger of [Manager.ErrorLog].
func (m *Manager) HandshakeFailed(addr netip.AddrPort, err error) {
	m.mu.Lock()
	var blamed []*run
	for d := range m.pulling[addr.Addr().Unmap()] {
		if len(blamed) < maxBlamed {
			blamed = append(blamed, d)
		}
	}
	m.mu.Unlock()
	for _, d := range blamed {
		d.observe(fsm.Observation{Kind: fsm.ObserveConnectionFailed, Detail: "a connection from the device's address failed: " + err.Error()})
	}
}

// ErrorLog returns a logger for http.Server.ErrorLog, by which the manager hears of TLS handshakes that fail, as
// [Manager.HandshakeFailed] has it. All that is logged goes on to ManagerConfig.Logger.
func (m *Manager) ErrorLog() *log.Logger { return log.New(errorLog{m}, "", 0) }

type errorLog struct{ m *Manager }

// Write takes a line of net/http.
func (l errorLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	rest, ok := strings.CutPrefix(text, "http: TLS handshake error from ")
	if !ok {
		l.m.log.Warn("http", "message", text)
		return len(line), nil
	}
	l.m.log.Debug("http", "message", text) // strangers can cause any number
	// The address may have colons of its own, the error begins after the first ": ".
	from, why, _ := strings.Cut(rest, ": ")
	if addr, err := netip.ParseAddrPort(from); err == nil {
		l.m.HandshakeFailed(addr, handshakeError(why))
	}
	return len(line), nil
}

// A handshakeError is what net/http has said of a handshake.
type handshakeError string

func (e handshakeError) Error() string { return string(e) }

// served implements follower.
func (m *Manager) served(update string, done int64) {
	if d := m.runOf(update); d != nil {
		d.progress(done)
	}
}

// asked notes that a request for an update's package came.
func (m *Manager) asked(update, by string) {
	if d := m.runOf(update); d != nil {
		d.observe(fsm.Observation{Kind: fsm.ObserveDownloadRequested, Detail: "a request for the package came by " + by})
	}
}

// imageFault notes that an update's image cannot be handed out.
func (m *Manager) imageFault(update string, err error) {
	if d := m.runOf(update); d != nil {
		d.observe(fsm.Observation{Kind: fsm.ObserveServerFault, Fault: fsm.FaultImage, Detail: err.Error()})
	}
}
