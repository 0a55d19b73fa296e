package coap

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
)

func equalMessages(a, b *wireMessage) bool {
	return a.typ == b.typ && a.code == b.code && a.mid == b.mid && a.token == b.token &&
		bytes.Equal(a.payload, b.payload) &&
		slices.EqualFunc(a.options, b.options, func(x, y Option) bool { return x.ID == y.ID && bytes.Equal(x.Value, y.Value) })
}

var datagramSeeds = [][]byte{
	{0x40, 0, 1, 2},
	{0x42, 1, 0, 1, 9, 9, 0xb2, 'r', 'd', 0x02, '1', '2', 0xff, 'x'},
	{0x41, 3, 0, 1, 9, 0xb1, '5', 0x01, '0', 0x01, '0', 0x11, 42, 0xd1, 2, 0x0e, 0xff, 1, 2, 3},
	{0x61, 0x45, 0, 1, 9, 0x61, 1, 0xff, 'a'},
	{0x58, 0x45, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0xe0, 1, 2},
	{0x40, 1, 0, 1, 0xdd, 1, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
}

// A parsed message can be written and parsed again unchanged, and refers to the datagram's memory
// only.
func FuzzDatagram(f *testing.F) {
	for _, s := range datagramSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m wireMessage
		if m.parse(b) != nil {
			return
		}
		if len(m.options) > maxOptions {
			t.Fatal("too many options")
		}
		again := m.appendDatagram(nil)
		var n wireMessage
		if err := n.parse(again); err != nil || !equalMessages(&m, &n) {
			t.Fatalf("%v: %v is not %v", err, n, m)
		}
		if len(again) > len(b) {
			t.Fatalf("%d bytes from %d", len(again), len(b))
		}
	})
}

// Options stay sorted when options are added.
func FuzzOptions(f *testing.F) {
	for _, s := range datagramSeeds {
		f.Add(s[headerSize:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m wireMessage
		if m.parse(append([]byte{0x40, 1, 0, 1}, b...)) != nil {
			return
		}
		if !slices.IsSortedFunc(m.options, func(x, y Option) int { return int(x.ID) - int(y.ID) }) {
			t.Fatal("not sorted")
		}
		var rebuilt Options
		for _, o := range slices.Backward(m.options) {
			rebuilt = AppendOption(rebuilt, o.ID, o.Value)
		}
		if len(rebuilt) != len(m.options) || !slices.IsSortedFunc(rebuilt, func(x, y Option) int { return int(x.ID) - int(y.ID) }) {
			t.Fatal("AppendOption loses the order")
		}
	})
}

func FuzzBlock(f *testing.F) {
	for _, s := range [][]byte{{}, {8}, {0x0e}, {0xff, 0xff, 0xf6}, {0, 0, 0}, {1, 2, 3, 4}} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		b, err := parseBlock(v)
		if err != nil {
			if len(v) <= 3 {
				t.Fatal(err)
			}
			return
		}
		again, err := parseBlock(b.append(nil))
		if err != nil || again != b {
			t.Fatalf("%v is not %v", again, b)
		}
		if b.num > maxBlockNum || b.offset() < 0 || b.offset()+int64(b.size()) > reach(b.szx) {
			t.Fatalf("out of range: %v", b)
		}
	})
}

// discard is a socket that sends nothing.
type discard struct{ net.PacketConn }

func (discard) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }
func (discard) LocalAddr() net.Addr                       { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5683} }
func (discard) Close() error                              { return nil }

// A sequence of datagrams, each with its length before it, does no harm to an endpoint with
// requests in progress.
func FuzzEndpoint(f *testing.F) {
	var all []byte
	for _, s := range datagramSeeds {
		all = append(append(all, byte(len(s))), s...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		e := New(Config{
			MaxBody: 4096,
			Handler: HandlerFunc(func(_ context.Context, r *IncomingRequest) *Response {
				if o := r.Accept(); o != nil {
					o.Notify(&Response{Code: Content, Payload: bytes.Repeat([]byte{1}, 3000)}, false)
				}
				return &Response{Code: Content, Payload: append(bytes.Repeat([]byte{1}, 2000), r.Path()...)}
			}),
		})
		s := e.newSocket(context.Background(), discard{})
		if err := e.enter(s); err != nil {
			t.Fatal(err)
		}
		close(s.done)
		defer e.Close()
		addr := netip.MustParseAddrPort("10.0.0.2:1000")
		a := s.association(addr)
		x := &exchange{request: true, confirm: true, record: []byte{0x41, 1, 0, 0, 9}, token: makeToken([]byte{9}), idleLimit: 1e9}
		if err := a.submit(x); err != nil {
			t.Fatal(err)
		}
		for n := 0; len(b) > 0 && n < 100; n++ {
			size := min(int(b[0]), len(b)-1)
			p := newPacket()
			copy(p.buf, b[1:1+size])
			if !s.handle(p, size, addr, nil) {
				p.free()
			}
			b = b[1+size:]
		}
		for inPool(e) > 0 {
			runtime.Gosched()
		}
		if n := e.uploadBytes.total(); n > 4*4096 {
			t.Fatalf("%d bytes of unfinished bodies", n)
		}
	})
}
