package coap

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m/simnet"
)

// wirePeer is a scripted peer over any transport.
type wirePeer struct {
	t      *testing.T
	e      *Endpoint
	as     Peer // the Peer by which e knows it
	stream bool
	net    *simnet.Network // of datagrams
	mid    uint16
	write  func([]byte) error
	read   func() (*packet, error)
}

// send sends a message; a request of its own gets a message id.
func (w *wirePeer) send(m wireMessage) {
	w.t.Helper()
	record := m.appendFrame(nil)
	if !w.stream {
		if m.typ == confirmable || m.typ == nonConfirmable {
			w.mid++
			m.mid = w.mid
		}
		record = m.appendDatagram(nil)
	}
	require.NoError(w.t, w.write(record))
}

// answer sends the response m to a request of the endpoint.
func (w *wirePeer) answer(to *packet, m wireMessage) {
	w.t.Helper()
	m.typ, m.mid, m.token = acknowledgement, to.msg.mid, to.msg.token
	w.send(m)
}

// next returns the next message of the endpoint, or nil if none comes in time.
func (w *wirePeer) next() *packet {
	p, err := w.read()
	if err != nil {
		return nil
	}
	return p
}

// inTransports runs f, in virtual time, with an endpoint and a peer over UDP, and over a stream on
// which both have sent their CSM, the peer with the options csm.
func inTransports(t *testing.T, config Config, csm Options, f func(t *testing.T, w *wirePeer)) {
	t.Run("udp", func(t *testing.T) { inUDP(t, config, f) })
	t.Run("stream", func(t *testing.T) { inPipe(t, config, csm, f) })
}

func inUDP(t *testing.T, config Config, f func(t *testing.T, w *wirePeer)) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		conn, err := network.Listen("10.0.0.1:5683")
		require.NoError(t, err)
		there, err := network.Listen("10.0.0.2:1000")
		require.NoError(t, err)
		e := New(config)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { _ = e.ServePacket(ctx, conn) })
		synctest.Wait()
		defer func() {
			cancel()
			group.Wait()
			require.NoError(t, e.Close())
			there.Close()
		}()
		f(t, &wirePeer{
			t: t, e: e, as: Peer{UDP, there.AddrPort(), 5683}, net: network,
			write: func(b []byte) error {
				_, err := there.WriteTo(b, net.UDPAddrFromAddrPort(conn.AddrPort()))
				return err
			},
			read: func() (*packet, error) {
				if err := there.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
					return nil, err // it is closed, and the test may be over
				}
				p := newPacket()
				n, _, err := there.ReadFrom(p.buf)
				if err != nil {
					return nil, err
				}
				return p, p.parse(n)
			},
		})
	})
}

func inPipe(t *testing.T, config Config, csm Options, f func(t *testing.T, w *wirePeer)) {
	synctest.Test(t, func(t *testing.T) {
		e := New(config)
		here, there := net.Pipe()
		peer, err := e.DialStream(t.Context(), here)
		require.NoError(t, err)
		defer func() {
			there.Close()
			require.NoError(t, e.Close())
		}()
		r := bufio.NewReader(there)
		w := &wirePeer{t: t, e: e, as: peer, stream: true, write: func(b []byte) error {
			_, err := there.Write(b)
			return err
		}, read: func() (*packet, error) {
			_ = there.SetReadDeadline(time.Now().Add(time.Hour)) // fails when reading does
			return readFrame(r)
		}}
		require.Equal(t, signalCSM, w.next().msg.code)
		w.send(wireMessage{code: signalCSM, options: csm})
		synctest.Wait()
		f(t, w)
	})
}

// errWire is the end of a request whose peer has gone.
var errWire = errors.New("coap: the test is over")

// do begins a request to the peer; its outcome is sent to the channel.
func (w *wirePeer) do(r *Request) <-chan outcome {
	done := make(chan outcome, 1)
	ctx, cancel := context.WithCancelCause(w.t.Context())
	w.t.Cleanup(func() { cancel(errWire) })
	go func() {
		began := time.Now()
		resp, err := w.e.Do(ctx, w.as, r)
		done <- outcome{resp, err, time.Since(began)}
	}()
	return done
}

type outcome struct {
	resp *Response
	err  error
	took time.Duration
}

// answerAll answers each message of a request with f, except those for which f returns no code,
// until the request is done.
func (w *wirePeer) answerAll(r *Request, f func(m *wireMessage) wireMessage) outcome {
	w.t.Helper()
	done := w.do(r)
	stop := make(chan struct{})
	go func() {
		for {
			p := w.next()
			select {
			case <-stop:
				return
			default:
			}
			if p == nil {
				return
			}
			if !isRequest(p.msg.code) {
				continue
			}
			if reply := f(&p.msg); reply.code != Empty {
				w.answer(p, reply)
			}
		}
	}()
	defer close(stop)
	return <-done
}
