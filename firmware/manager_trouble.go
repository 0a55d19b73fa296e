package firmware

import (
	"log" //nolint:depguard // the type of http.Server.ErrorLog
	"net/netip"
	"strings"

	"github.com/otago-iot/otago/firmware/fsm"
)

// maxBlamed limits the updates whose journals report one failed connection: many devices may share
// an address.
const maxBlamed = 16

// notePull records that a device gets a Package URI, so that connections from its address belong to
// its update.
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

// forgetPull undoes notePull. m.mu is held.
func (m *Manager) forgetPull(d *run) {
	if set := m.pulling[d.from]; set != nil {
		delete(set, d)
		if len(set) == 0 {
			delete(m.pulling, d.from)
		}
	}
}

// HandshakeFailed reports that a connection from addr failed before it could make a request, and
// why. A client that does not trust the certificate of the server shows nothing more than that. The
// journals of the updates that devices at that address are downloading then say so. The manager
// itself watches the transports of its lwm2m.Server; a program that serves downloads by HTTPS calls
// HandshakeFailed for those, or passes [Manager.ErrorLog] to its http.Server.
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

// ErrorLog returns a logger for http.Server.ErrorLog. It passes failed TLS handshakes to
// [Manager.HandshakeFailed], and everything to ManagerConfig.Logger.
func (m *Manager) ErrorLog() *log.Logger { return log.New(errorLog{m}, "", 0) }

type errorLog struct{ m *Manager }

// Write handles a line of net/http.
func (l errorLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	rest, ok := strings.CutPrefix(text, "http: TLS handshake error from ")
	if !ok {
		l.m.log.Warn("http", "message", text)
		return len(line), nil
	}
	l.m.log.Debug("http", "message", text) // any number of unknown peers can cause such lines
	// The address may contain colons; the error begins after the first ": ".
	from, why, _ := strings.Cut(rest, ": ")
	if addr, err := netip.ParseAddrPort(from); err == nil {
		l.m.HandshakeFailed(addr, handshakeError(why))
	}
	return len(line), nil
}

// A handshakeError is the error that net/http logged for a handshake.
type handshakeError string

func (e handshakeError) Error() string { return string(e) }

// served implements follower.
func (m *Manager) served(update string, done int64) {
	if d := m.runOf(update); d != nil {
		d.progress(done)
	}
}

// asked records that a request for the package of an update came.
func (m *Manager) asked(update, by string) {
	if d := m.runOf(update); d != nil {
		d.observe(fsm.Observation{Kind: fsm.ObserveDownloadRequested, Detail: "a request for the package came by " + by})
	}
}

// imageFault records that the image of an update cannot be served.
func (m *Manager) imageFault(update string, err error) {
	if d := m.runOf(update); d != nil {
		d.observe(fsm.Observation{Kind: fsm.ObserveServerFault, Fault: fsm.FaultImage, Detail: plainError(err)})
	}
}

// imageTrouble records that an update's image cannot be served now.
func (m *Manager) imageTrouble(update string, err error) {
	if d := m.runOf(update); d != nil {
		d.observe(fsm.Observation{Kind: fsm.ObserveConnectionFailed, Detail: "the image cannot be read now: " + plainError(err)})
	}
}
