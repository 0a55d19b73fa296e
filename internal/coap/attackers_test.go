package coap_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// siege is a server on several transports in virtual time, with a device on each of them, and an
// attacker who sends UDP datagrams from forged addresses.
type siege struct {
	net      *simnet.Network
	server   *coap.Endpoint
	attacker *simnet.Conn
	plain    *simnet.Conn // of the server
	forged   uint32
	devices  map[string]*besieged
	calls    atomic.Int32 // of /count
}

type besieged struct {
	*coap.Endpoint
	peer coap.Peer
	conn *simnet.Conn
}

const siegeDelay = 100 * time.Millisecond

var siegeBody = bodyOf(3000)

// siegeHandler delays unverified peers by 5 s, and answers others at once.
func siegeHandler(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
	switch r.Path() {
	case "/slow":
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
		}
	case "/observed":
		r.Accept()
		return &coap.Response{Code: coap.Content, Payload: []byte("x")}
	case "/big":
		return &coap.Response{Code: coap.Content, Payload: siegeBody, ETag: []byte{1}}
	case "/rd":
		if !bytes.Equal(r.Payload, siegeBody) {
			return &coap.Response{Code: coap.BadRequest}
		}
	}
	return &coap.Response{Code: coap.Changed}
}

func inSiege(t *testing.T, config coap.Config, f func(t *testing.T, s *siege)) {
	synctest.Test(t, func(t *testing.T) {
		s := &siege{net: simnet.New(1), devices: make(map[string]*besieged)}
		s.net.SetDefault(simnet.Conditions{Delay: siegeDelay})
		known := make(chan coap.Peer, 1)
		config.Handler = coap.HandlerFunc(func(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
			switch r.Path() {
			case "/known":
				known <- r.Peer
			case "/count":
				s.calls.Add(1)
			}
			return siegeHandler(ctx, r)
		})
		s.server = coap.New(config)
		ctx, cancel := context.WithCancel(context.Background())
		var group sync.WaitGroup
		defer func() {
			for _, d := range s.devices {
				d.Close()
			}
			cancel()
			s.server.Close()
			group.Wait()
			synctest.Wait()
		}()
		listen := func(addr string) *simnet.Conn {
			conn, err := s.net.Listen(addr)
			require.NoError(t, err)
			return conn
		}
		s.plain = listen("10.0.0.1:5683")
		secure, streams := listen("10.0.0.1:5684"), newPipeListener()
		group.Go(func() { s.server.ServePacket(ctx, s.plain) })
		group.Go(func() { s.server.ServeDTLS(ctx, secure, pskOf(testIdentity, testKey)) })
		group.Go(func() { s.server.ServeListener(ctx, streams) })
		synctest.Wait()
		device := func(name, addr string, dial func(e *coap.Endpoint, conn *simnet.Conn) (coap.Peer, error)) {
			d := &besieged{Endpoint: coap.New(coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response { return &coap.Response{Code: coap.Content} })})}
			var err error
			d.conn = listen(addr)
			d.peer, err = dial(d.Endpoint, d.conn)
			require.NoError(t, err)
			s.devices[name] = d
		}
		device("DTLS", "10.0.0.2:1", func(e *coap.Endpoint, conn *simnet.Conn) (coap.Peer, error) {
			return e.DialDTLS(ctx, conn, netip.MustParseAddrPort("10.0.0.1:5684"), pskClient())
		})
		device("TCP", "10.0.0.3:1", func(e *coap.Endpoint, conn *simnet.Conn) (coap.Peer, error) {
			conn.Close()
			return e.DialStream(ctx, streams.dial())
		})
		device("known UDP", "10.0.0.4:1", func(e *coap.Endpoint, conn *simnet.Conn) (coap.Peer, error) {
			return e.DialPacket(conn, serverAddr)
		})
		device("UDP", "10.0.0.5:1", func(e *coap.Endpoint, conn *simnet.Conn) (coap.Peer, error) {
			return e.DialPacket(conn, serverAddr)
		})
		d := s.devices["known UDP"]
		_, err := d.Do(ctx, d.peer, &coap.Request{Code: coap.POST, Path: []string{"known"}})
		require.NoError(t, err)
		_, err = s.server.Do(ctx, <-known, &coap.Request{Code: coap.GET})
		require.NoError(t, err)
		s.attacker = listen("10.0.0.6:1")
		f(t, s)
	})
}

// flood sends the messages that make returns, from a new address each, perSecond times a second,
// until stop is called.
func (s *siege) flood(perSecond int, make func(n uint32) []message.Message) (stop func()) {
	done, ended := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-done.Done():
				return
			}
			for range perSecond / 100 {
				var ip [4]byte
				binary.BigEndian.PutUint32(ip[:], 0x0b000000+s.forged)
				s.attacker.Rebind(netip.AddrPortFrom(netip.AddrFrom4(ip), 1000))
				for _, m := range make(s.forged) {
					b := [2000]byte{}
					n, err := coder.DefaultCoder.Encode(m, b[:])
					if err == nil {
						_, _ = s.attacker.WriteTo(b[:n], net.UDPAddrFromAddrPort(serverAddr))
					}
				}
				s.forged++
			}
		}
	})
	return func() {
		ended()
		group.Wait()
	}
}

// registers makes a device register block by block, fetch a body, and observe. It returns how long
// that took.
func (d *besieged) registers(t *testing.T) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	start := time.Now()
	resp, err := d.Do(ctx, d.peer, &coap.Request{Code: coap.POST, Path: []string{"rd"}, Payload: siegeBody, BlockSize: 256})
	require.NoError(t, err)
	require.Equal(t, coap.Changed, resp.Code)
	resp, err = d.Do(ctx, d.peer, &coap.Request{Code: coap.POST, Path: []string{"big"}, BlockSize: 256})
	require.NoError(t, err)
	require.True(t, bytes.Equal(siegeBody, resp.Payload), "%v", resp.Code)
	o, _, err := d.Observe(ctx, d.peer, &coap.Request{Code: coap.GET, Path: []string{"observed"}}, func(*coap.Response) {})
	require.NoError(t, err)
	require.NotNil(t, o)
	return time.Since(start)
}

func forgedBlock(m message.Message, option message.OptionID, number uint32, more bool, szx uint8, size int) message.Message {
	m.Options = m.Options.Add(message.Option{ID: option, Value: coap.AppendBlock(coap.BlockFields{Num: number, More: more, SZX: szx})})
	m.MessageID += int32(number)
	m.Payload = make([]byte, size)
	return m
}

// TestForgedFloods uses up all shared resources with forged datagrams. Devices with a verified
// address must not notice.
func TestForgedFloods(t *testing.T) {
	bounds := coap.Bounds{
		Peers: 250, Workers: 40, Queue: 400, Uploads: 400, UploadBytes: 1 << 20, Downloads: 400, Observers: 100,
		DedupEntries: 40_000, DedupBytes: 2 << 20,
	}
	put := request(con, codes.PUT, 1, "rd")
	for name, datagrams := range map[string]func(n uint32) []message.Message{
		"first blocks": func(uint32) []message.Message {
			return []message.Message{forgedBlock(put, message.Block1, 0, true, 0, 16)}
		},
		"first and second blocks": func(uint32) []message.Message {
			return []message.Message{forgedBlock(put, message.Block1, 0, true, 0, 16), forgedBlock(put, message.Block1, 1, true, 0, 16)}
		},
		"large bodies": func(uint32) (blocks []message.Message) {
			for i := range uint32(10) {
				blocks = append(blocks, forgedBlock(put, message.Block1, i, true, 6, 1024))
			}
			return blocks
		},
		"slow requests": func(uint32) []message.Message { return []message.Message{request(con, codes.GET, 1, "slow")} },
		"first blocks of responses": func(uint32) []message.Message {
			return []message.Message{forgedBlock(request(con, codes.GET, 1, "big"), message.Block2, 0, false, 0, 0)}
		},
		"blocks of responses": func(uint32) []message.Message {
			m := request(con, codes.GET, 1, "big")
			return []message.Message{forgedBlock(m, message.Block2, 0, false, 0, 0), forgedBlock(m, message.Block2, 1, false, 0, 0)}
		},
		"observers": func(uint32) []message.Message {
			return []message.Message{{Type: con, Code: codes.GET, MessageID: 1, Token: message.Token{1}, Options: message.Options{
				{ID: message.Observe}, {ID: message.URIPath, Value: []byte("observed")},
			}}}
		},
		"twice from each address": func(uint32) []message.Message {
			return []message.Message{request(con, codes.GET, 1, "x"), request(con, codes.GET, 2, "x")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inSiege(t, coap.Config{Bounds: bounds}, func(t *testing.T, s *siege) {
				stop := s.flood(1000, datagrams)
				defer stop()
				pass(10 * time.Second)
				for _, device := range []string{"DTLS", "TCP", "known UDP"} {
					// 25 messages of 200 ms, and no retransmission.
					require.Less(t, s.devices[device].registers(t), 6*time.Second, "%v", device)
				}
				conn, err := s.net.Listen("10.0.0.7:1")
				require.NoError(t, err)
				fresh := &besieged{Endpoint: coap.New(coap.Config{})}
				defer fresh.Close()
				fresh.peer, err = fresh.DialDTLS(t.Context(), conn, netip.MustParseAddrPort("10.0.0.1:5684"), pskClient())
				require.NoError(t, err)
				require.Less(t, fresh.registers(t), 6*time.Second, "a device that comes new")
				require.LessOrEqual(t, coap.Holds(s.server).Peers, bounds.Peers)
			})
		})
	}
}

// TestUnknownDeviceInAFlood registers an unknown device over UDP while a flood pretends to do the
// same: the device must succeed.
func TestUnknownDeviceInAFlood(t *testing.T) {
	inSiege(t, coap.Config{}, func(t *testing.T, s *siege) {
		put := request(con, codes.PUT, 1, "rd")
		stop := s.flood(1000, func(uint32) []message.Message {
			return []message.Message{forgedBlock(put, message.Block1, 0, true, 0, 16)}
		})
		defer stop()
		pass(10 * time.Second)
		require.Less(t, s.devices["UDP"].registers(t), 6*time.Second)
	})
}

// TestDuplicatesInAFlood checks that a duplicate of a DTLS device is recognized after many
// datagrams of others.
func TestDuplicatesInAFlood(t *testing.T) {
	inSiege(t, coap.Config{Bounds: coap.Bounds{DedupEntries: 20_000}}, func(t *testing.T, s *siege) {
		d := s.devices["DTLS"]
		deviceHost := netip.MustParseAddr("10.0.0.2")
		before := s.calls.Load()
		s.net.SetLink(serverAddr.Addr(), deviceHost, simnet.Conditions{Loss: 1})
		stop := s.flood(20_000, func(uint32) []message.Message { return []message.Message{request(con, codes.GET, 1, "x")} })
		time.AfterFunc(1500*time.Millisecond, func() {
			s.net.SetLink(serverAddr.Addr(), deviceHost, simnet.Conditions{Delay: siegeDelay})
		})
		resp, err := d.Do(t.Context(), d.peer, &coap.Request{Code: coap.POST, Path: []string{"count"}})
		stop()
		require.NoError(t, err)
		require.Equal(t, coap.Changed, resp.Code)
		require.Equal(t, before+1, s.calls.Load())
	})
}

// TestFullQueueOfAStream checks that requests without room get an answer over TCP, where nothing is
// retransmitted.
func TestFullQueueOfAStream(t *testing.T) {
	inSiege(t, coap.Config{Bounds: coap.Bounds{Workers: 1, Queue: 2}}, func(t *testing.T, s *siege) {
		d := s.devices["TCP"]
		codes := make(chan coap.Code, 5)
		for range 5 {
			d.Go(d.peer, &coap.Request{Code: coap.GET, Path: []string{"slow"}}, func(resp *coap.Response, err error) {
				if err != nil {
					t.Error(err)
					close(codes)
					return
				}
				codes <- resp.Code
			})
		}
		count := make(map[coap.Code]int)
		for range 5 {
			count[<-codes]++
		}
		require.Equal(t, map[coap.Code]int{coap.Changed: 3, coap.ServiceUnavailable: 2}, count)
	})
}
