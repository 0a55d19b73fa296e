package firmwaretest

import (
	"context"
	"net"
	"sync"
	"time"
)

// wire is a habit that shows below LwM2M, in the CoAP messages.
type wire interface {
	// received gets a request before the client does. If pass is false, the client does not get it:
	// the wire answers it, or drops it.
	received(m *message) (answer *message, pass bool)
	// sent gets a message of the client and may change it. If it returns false, the message is
	// lost.
	sent(m *message) bool
}

// lingerer is a wire that keeps a socket open for some time after the client has closed it.
type lingerer interface{ lingers() (until time.Time) }

// wires returns the wires that the script's habits need.
func (d *Device) wires() []wire {
	var wires []wire
	habits := d.script.Habits
	if habits.Buffer > 0 {
		wires = append(wires, buffer(habits.Buffer))
	}
	if habits.DownloadsInWrite {
		wires = append(wires, &writeDownloads{device: d, thread: make(chan struct{}, 1)})
	}
	if habits.LocksInPush {
		wires = append(wires, &pushLock{})
	}
	if habits.NoComposite {
		wires = append(wires, noComposite{})
	}
	if habits.Listing == ListsNoInstance || habits.Listing == ListsResources || habits.Appears > 0 {
		wires = append(wires, lister{d})
	}
	if n := habits.Nonsense; len(n.NoContent) > 0 || len(n.raw()) > 0 {
		wires = append(wires, &nonsenseWire{nonsense: n})
	}
	return wires
}

// noComposite is Habits.NoComposite.
type noComposite struct{}

func (noComposite) received(m *message) (*message, bool) {
	if m.code == codeFETCH || m.code == codeIPATCH {
		return m.answer(codeNotAllowed), false
	}
	return nil, true
}

func (noComposite) sent(*message) bool { return true }

// listen returns a function that opens the device's sockets, with the wires in between. The wires
// outlive a socket and a restart of the client.
func (d *Device) listen(open func(context.Context) (net.PacketConn, error)) func(context.Context) (net.PacketConn, error) {
	wires := d.wires()
	if len(wires) == 0 {
		return open
	}
	if open == nil {
		open = func(ctx context.Context) (net.PacketConn, error) {
			return new(net.ListenConfig).ListenPacket(ctx, "udp", ":0")
		}
	}
	return func(ctx context.Context) (net.PacketConn, error) {
		conn, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return &socket{PacketConn: conn, wires: wires, reading: make(chan struct{}, 1), gone: make(chan struct{})}, nil
	}
}

// socket is a socket whose messages pass through wires.
type socket struct {
	net.PacketConn
	wires   []wire
	reading chan struct{} // holds a token while a goroutine reads
	closing sync.Once
	gone    chan struct{} // closed with the socket
}

func (s *socket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.read(p)
		if err != nil || s.takes(p[:n], from) {
			return n, from, err
		}
	}
}

func (s *socket) read(p []byte) (int, net.Addr, error) {
	select {
	case <-s.gone:
		return 0, nil, net.ErrClosed
	case s.reading <- struct{}{}:
	}
	defer func() { <-s.reading }()
	return s.PacketConn.ReadFrom(p)
}

// Close closes the socket, at once or when no wire needs it any more.
func (s *socket) Close() (err error) {
	s.closing.Do(func() {
		close(s.gone)
		err = s.close()
	})
	return err
}

func (s *socket) close() error {
	var until time.Time
	for _, w := range s.wires {
		if l, ok := w.(lingerer); ok {
			until = l.lingers()
		}
	}
	if !time.Now().Before(until) {
		return s.PacketConn.Close()
	}
	err := s.PacketConn.SetReadDeadline(time.Now()) // the client's read ends
	go s.linger(until)
	return err
}

// linger answers in place of the client, which already has another socket.
func (s *socket) linger(until time.Time) {
	defer s.PacketConn.Close()
	s.reading <- struct{}{}
	if s.PacketConn.SetReadDeadline(until) != nil {
		return
	}
	p := make([]byte, 2048)
	for {
		n, from, err := s.PacketConn.ReadFrom(p)
		if err != nil {
			return
		}
		s.takes(p[:n], from)
	}
}

// takes reports whether the client gets a datagram.
func (s *socket) takes(datagram []byte, from net.Addr) bool {
	m, ok := parseMessage(datagram)
	if !ok || !m.isRequest() {
		return true
	}
	for _, w := range s.wires {
		answer, pass := w.received(m)
		if answer != nil {
			_, _ = s.PacketConn.WriteTo(answer.append(nil), from)
		}
		if !pass {
			return false
		}
	}
	return true
}

func (s *socket) WriteTo(p []byte, to net.Addr) (int, error) {
	m, ok := parseMessage(p)
	if !ok {
		return s.PacketConn.WriteTo(p, to)
	}
	for _, w := range s.wires {
		if !w.sent(m) {
			return len(p), nil
		}
	}
	if !m.changed {
		return s.PacketConn.WriteTo(p, to)
	}
	if _, err := s.PacketConn.WriteTo(m.append(nil), to); err != nil {
		return 0, err
	}
	return len(p), nil
}

// buffer answers requests that are longer than so many bytes.
type buffer int

func (b buffer) received(m *message) (*message, bool) {
	if m.size <= int(b) {
		return nil, true
	}
	return m.answer(codeTooLarge), false
}

func (buffer) sent(*message) bool { return true }
