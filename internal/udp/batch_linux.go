package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch reads and writes several datagrams with one system call (recvmmsg, sendmmsg). While the
// reader finds several datagrams at once, answers wait until it has handled them, and leave
// together.
type batch struct {
	gate func() bool // see Conn.SetGate
	raw  syscall.RawConn
	v6   bool // the family of the socket

	// Of the reader:
	in    []message // MaxBatch
	hdrs  []mmsghdr
	want  int // how many datagrams to read at once
	got   int
	full  int // batches in a row that were full
	errno error
	poll  func(fd uintptr) bool // fill, as a value that needs no allocation
	zones map[uint32]string

	mu   sync.Mutex
	busy bool // the reader finds several datagrams at once, and will call flush
	out  *letters
}

// mmsghdr is struct mmsghdr of the system.
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

// message is what a mmsghdr points to.
type message struct {
	iov  unix.Iovec
	name unix.RawSockaddrInet6 // large enough for both families
	oob  []byte                // destinationSize, if the socket has several addresses
}

// letters are datagrams that wait to be sent.
type letters struct {
	n, used int
	hdrs    [sendBatch]mmsghdr
	iovs    [sendBatch]unix.Iovec
	names   [sendBatch]unix.RawSockaddrInet6
	arena   [sendBatch * 1280]byte // a datagram with a block of 1024 bytes has some 1100

	sent int
	gate func() bool
	poll func(fd uintptr) bool // send, as a value that needs no allocation
}

// sendBatch is how many datagrams wait at most.
const sendBatch = 16

var mailboxes = sync.Pool{New: func() any {
	l := new(letters)
	l.poll = l.send
	return l
}}

// readFirst is how many full batches in a row are read before handlers may run.
const readFirst = 16

// minWant is how many datagrams an idle socket reads at once.
const minWant = 2

func newBatch(conn *net.UDPConn) *batch {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	b := &batch{raw: raw, want: minWant}
	b.poll = b.fill
	domain := 0
	if failed := raw.Control(func(fd uintptr) {
		domain, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
	}); failed != nil || err != nil {
		return nil
	}
	b.v6 = domain == unix.AF_INET6
	return b
}

// read reads datagrams, and passes them to handle; see [Conn.Serve].
func (b *batch) read(l *locals, room func(int) []byte, handle func(int, int, netip.AddrPort, *Local)) error {
	if b.in == nil {
		b.in, b.hdrs = make([]message, MaxBatch), make([]mmsghdr, MaxBatch)
	}
	for i := range b.want {
		m, h := &b.in[i], &b.hdrs[i]
		buf := room(i)
		m.iov.Base = &buf[0]
		m.iov.SetLen(len(buf))
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&m.name)), uint32(unsafe.Sizeof(m.name))
		h.Iov = &m.iov
		h.SetIovlen(1)
		if l.conn != nil {
			if m.oob == nil {
				m.oob = make([]byte, destinationSize)
			}
			h.Control = &m.oob[0]
			h.SetControllen(destinationSize)
		}
	}
	if err := b.raw.Read(b.poll); err != nil {
		return err
	}
	if b.errno != nil {
		return b.errno
	}
	if b.got > 1 {
		b.setBusy()
	}
	for i := range b.got {
		m, h := &b.in[i], &b.hdrs[i]
		var at *Local
		if l.conn != nil {
			at = l.of(destinationOf(m.oob[:h.Controllen]))
		}
		handle(i, int(h.n), b.from(&m.name), at)
	}
	switch {
	case b.got == b.want:
		b.want = min(2*b.want, MaxBatch)
	case b.got < b.want/4:
		b.want = max(b.want/2, minWant)
	}
	if b.got < MaxBatch {
		b.full = 0
	} else {
		b.full++
	}
	if b.got > 1 {
		// Handlers of these datagrams may answer now. But while more datagrams wait than a batch
		// holds, reading comes first: the system drops what does not fit into the buffer.
		if b.full%readFirst == 0 {
			runtime.Gosched()
		}
		b.flush()
	}
	return nil
}

// fill reads what has arrived. If there is nothing it returns false, and the reader waits.
func (b *batch) fill(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.hdrs[0])), uintptr(b.want), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b.got, b.errno = int(n), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			b.rest()
			return false
		default:
			b.got, b.errno = 0, errno
		}
		return true
	}
}

// from returns the address of a sender.
func (b *batch) from(name *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	if !b.v6 {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	}
	addr := netip.AddrFrom16(name.Addr).Unmap()
	if name.Scope_id != 0 {
		addr = addr.WithZone(b.zone(name.Scope_id))
	}
	return netip.AddrPortFrom(addr, port)
}

// zone returns the name of an interface.
func (b *batch) zone(index uint32) string {
	zone, ok := b.zones[index]
	if !ok {
		zone = strconv.Itoa(int(index))
		if i, err := net.InterfaceByIndex(int(index)); err == nil {
			zone = i.Name
		}
		if b.zones == nil || len(b.zones) >= maxLocals {
			b.zones = make(map[uint32]string)
		}
		b.zones[index] = zone
	}
	return zone
}

func (b *batch) setBusy() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = true
}

// post takes a datagram to send it soon. It returns false if the caller has to send it.
func (b *batch) post(record []byte, to netip.AddrPort, from *Local) bool {
	b.mu.Lock()
	if !b.busy || to.Addr().Zone() != "" || to.Addr().Is6() && !b.v6 || len(record) == 0 {
		b.mu.Unlock()
		return false
	}
	if b.out == nil {
		b.out = mailboxes.Get().(*letters)
	}
	if len(record) > len(b.out.arena)-b.out.used {
		b.mu.Unlock()
		return false
	}
	b.out.add(record, to, from, b.v6)
	var full *letters
	if b.out.n == sendBatch {
		full, b.out = b.out, nil
	}
	b.mu.Unlock()
	if full != nil {
		b.send(full)
	}
	return true
}

// flush sends the datagrams that wait.
func (b *batch) flush() {
	b.mu.Lock()
	waiting := b.out
	b.out = nil
	b.mu.Unlock()
	if waiting != nil {
		b.send(waiting)
	}
}

// rest is flush before the reader waits, or ends: until it finds several datagrams again, each is
// sent at once.
func (b *batch) rest() {
	b.mu.Lock()
	b.busy = false
	b.mu.Unlock()
	b.flush()
}

func (b *batch) setGate(open func() bool) { b.gate = open }

// send sends datagrams. One that the system refuses is lost, as it might be on its way.
func (b *batch) send(l *letters) {
	l.gate = b.gate
	_ = b.raw.Write(l.poll) // fails when the socket is closed
	for i := range l.n {
		l.hdrs[i].Control = nil
	}
	l.n, l.used, l.sent, l.gate = 0, 0, 0, nil
	mailboxes.Put(l)
}

// add adds a datagram. There is room.
func (l *letters) add(record []byte, to netip.AddrPort, from *Local, v6 bool) {
	h, iov, name := &l.hdrs[l.n], &l.iovs[l.n], &l.names[l.n]
	data := l.arena[l.used : l.used+copy(l.arena[l.used:], record)]
	iov.Base = &data[0]
	iov.SetLen(len(data))
	h.Iov = iov
	h.SetIovlen(1)
	h.Name = (*byte)(unsafe.Pointer(name))
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], to.Port())
	if v6 {
		name.Family, name.Flowinfo, name.Scope_id = unix.AF_INET6, 0, 0
		name.Addr = to.Addr().As16()
		h.Namelen = unix.SizeofSockaddrInet6
	} else {
		name.Family = unix.AF_INET
		(*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr = to.Addr().As4()
		h.Namelen = unix.SizeofSockaddrInet4
	}
	if from != nil {
		h.Control = &from.control[0]
		h.SetControllen(len(from.control))
	} else {
		h.Control = nil
		h.SetControllen(0)
	}
	l.used += len(data)
	l.n++
}

// send sends what was not sent so far. It returns false if the system has no room for it now.
func (l *letters) send(fd uintptr) bool {
	for l.sent < l.n {
		if l.gate != nil && !l.gate() {
			return true
		}
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&l.hdrs[l.sent])), uintptr(l.n-l.sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			l.sent += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			l.sent++
		}
	}
	return true
}
