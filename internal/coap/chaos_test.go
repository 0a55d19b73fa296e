package coap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// Many devices do everything at once over a bad network. All bodies arrive intact, each request
// that must not be repeated is executed at most once, and in the end nothing is kept.
func TestChaos(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { chaos(t, seed) }) })
	}
}

func chaos(t *testing.T, seed uint64) {
	const devices = 12
	network := simnet.New(seed)
	network.SetDefault(simnet.Conditions{
		Loss: 0.1, Duplicate: 0.2, Reorder: 0.2,
		Delay: 80 * time.Millisecond, Jitter: 200 * time.Millisecond,
	})
	image := bodyOf(20_000)
	large := bodyOf(5_000)
	var posted sync.Map // of *atomic.Int32
	server := coap.New(coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		if r.Code == coap.POST {
			n, _ := posted.LoadOrStore(r.Path(), new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
			return &coap.Response{Code: coap.Created, Payload: large}
		}
		return &coap.Response{Code: coap.Content, Body: bytes.NewReader(image), Size: int64(len(image)), ETag: []byte{7}}
	})})
	conn, err := network.Listen(serverAddr.String())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var serving, work sync.WaitGroup
	serving.Go(func() { server.ServePacket(ctx, conn) })

	fail := func(format string, args ...any) { t.Errorf(format, args...) }
	check := func(what string, resp *coap.Response, err error, code coap.Code, body []byte) {
		switch {
		case errors.Is(err, coap.ErrTimeout):
			// all five transmissions of a message were lost
		case err != nil:
			fail("%s: %v", what, err)
		case resp.Code != code:
			fail("%s: %v", what, resp.Code)
		case body != nil && !bytes.Equal(body, resp.Payload):
			fail("%s: wrong body", what)
		}
	}
	for i := range devices {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 1000)
		var observer atomic.Pointer[coap.Observer]
		var current atomic.Pointer[[]byte]
		current.Store(&[]byte{0})
		sink := &recorder{}
		device := coap.New(coap.Config{
			Sinks: func(*coap.IncomingRequest) (coap.Sink, *coap.Response) { return sink, nil },
			Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				if r.Code == coap.PUT {
					if !bytes.Equal(image, sink.bytes()) {
						fail("push to %d: wrong body", i)
					}
					return &coap.Response{Code: coap.Changed}
				}
				if o := r.Accept(); o != nil {
					observer.Store(o)
				}
				if r.Path() == "/5/0/3" {
					return &coap.Response{Code: coap.Content, Payload: *current.Load()}
				}
				return &coap.Response{Code: coap.Content, Payload: large}
			}),
		})
		dialled, err := network.Listen(addr.String())
		require.NoError(t, err)
		toServer, err := device.DialPacket(dialled, serverAddr)
		require.NoError(t, err)
		toDevice := coap.Peer{Transport: coap.UDP, Addr: addr}
		synctest.Wait()

		work.Go(func() {
			resp, err := server.Do(ctx, toDevice, &coap.Request{Code: coap.PUT, Path: []string{"5", "0", "0"}, Body: bytes.NewReader(image), Size: int64(len(image)), Stall: time.Hour})
			check("push", resp, err, coap.Changed, nil)
		})
		work.Go(func() {
			for range 10 {
				resp, err := server.Do(ctx, toDevice, &coap.Request{Code: coap.GET, Path: []string{"5", "0"}})
				check("read", resp, err, coap.Content, large)
			}
		})
		work.Go(func() {
			var got bytes.Buffer
			resp, err := device.Do(ctx, toServer, &coap.Request{Code: coap.GET, Path: []string{"fw", fmt.Sprint(i)}, Into: &got, Stall: time.Hour})
			check("pull", resp, err, coap.Content, nil)
			if err == nil && !bytes.Equal(image, got.Bytes()) {
				fail("pull: wrong body")
			}
		})
		work.Go(func() {
			for j := range 10 {
				resp, err := device.Do(ctx, toServer, &coap.Request{Code: coap.POST, Path: []string{"rd", fmt.Sprint(i), fmt.Sprint(j)}, Payload: bodyOf(100)})
				check("register", resp, err, coap.Created, large)
			}
		})
		work.Go(func() {
			last := byte(0)
			o, resp, err := server.Observe(ctx, toDevice, &coap.Request{Code: coap.GET, Path: []string{"5", "0", "3"}}, func(r *coap.Response) {
				if r == nil || len(r.Payload) == 0 {
					return
				}
				if r.Payload[0] < last || len(r.Payload) != 1+int(r.Payload[0])*50 {
					fail("notification %d after %d, %d bytes", r.Payload[0], last, len(r.Payload))
				}
				last = r.Payload[0]
			})
			check("observe", resp, err, coap.Content, []byte{0})
			for n := range byte(30) {
				pass(3 * time.Second)
				if at := observer.Load(); at != nil {
					body := bytes.Repeat([]byte{n + 1}, 1+int(n+1)*50)
					current.Store(&body)
					at.Notify(&coap.Response{Code: coap.Content, Payload: body}, n%2 == 0)
				}
			}
			if o != nil {
				o.Cancel(ctx)
			}
		})
		defer device.Close()
	}
	work.Wait()
	count := 0
	posted.Range(func(path, n any) bool {
		count++
		if n := n.(*atomic.Int32).Load(); n != 1 {
			fail("%v was carried out %d times", path, n)
		}
		return true
	})
	require.Greater(t, count, devices*10-5)
	pass(15 * time.Minute)
	synctest.Wait()
	h := coap.Holds(server)
	require.Zero(t, h.Uploads+h.Downloads+h.Peers+h.Dedup)
	cancel()
	serving.Wait()
	server.Close()
}

// Whatever a peer answers, a request ends, in bounded memory.
func TestHostilePeer(t *testing.T) {
	seeds := 600
	if testing.Short() {
		seeds = 60
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(uint64(seed), 0))
		const maxBody = 8000
		req := &coap.Request{
			Code: []coap.Code{coap.GET, coap.PUT, coap.POST, coap.FETCH}[rng.IntN(4)],
			Path: []string{"x"}, MaxBody: maxBody, Stall: time.Minute,
		}
		if rng.IntN(2) == 0 {
			req.Payload = bodyOf(rng.IntN(5000))
		}
		var got bytes.Buffer
		if rng.IntN(3) == 0 {
			req.Into = &got
		}
		inRaw(t, coap.Config{MaxBody: maxBody}, func(t *testing.T, e *coap.Endpoint, r *raw) {
			type result struct {
				resp *coap.Response
				err  error
			}
			done := make(chan result, 1)
			start := time.Now()
			go func() {
				resp, err := e.Do(t.Context(), r.peer(), req)
				done <- result{resp, err}
			}()
			for {
				m, ok := r.receiveWithin(10 * time.Second)
				synctest.Wait()
				select {
				case res := <-done:
					if res.err == nil {
						require.NotNil(t, res.resp)
						require.LessOrEqual(t, len(res.resp.Payload), maxBody)
					}
					require.LessOrEqual(t, got.Len(), maxBody)
					return
				default:
				}
				require.Less(t, time.Since(start), 5*time.Hour, "seed %d does not end", seed)
				if ok {
					r.send(hostile(rng, m))
				}
			}
		})
	}
}

// hostile makes an answer that is often almost right.
func hostile(rng *rand.Rand, m message.Message) message.Message {
	reply := message.Message{
		Type: ack, MessageID: m.MessageID, Token: m.Token,
		Code: []codes.Code{
			codes.Continue, codes.Continue, codes.Continue, codes.Content, codes.Content, codes.Content, codes.Changed,
			codes.RequestEntityIncomplete, codes.RequestEntityTooLarge, codes.ServiceUnavailable, codes.Unauthorized, codes.Valid,
		}[rng.IntN(12)],
	}
	if rng.IntN(20) == 0 {
		reply.Type = message.Type(rng.IntN(4))
	}
	for _, id := range []message.OptionID{message.Block1, message.Block2} {
		b, ok := blockOf(m, id)
		if !ok && rng.IntN(3) > 0 {
			continue
		}
		switch rng.IntN(8) {
		case 0:
			b.SZX = uint8(rng.IntN(8))
		case 1:
			b.Num = rng.Uint32N(1 << 20)
		case 2:
			continue
		}
		if b.More = rng.IntN(4) > 0; id == message.Block2 {
			reply.Payload = make([]byte, []int{16 << b.SZX, 16 << b.SZX, 0, 7}[rng.IntN(4)]%1500)
		}
		reply = withBlock(reply, id, b)
	}
	for _, id := range []message.OptionID{message.ETag, message.MaxAge, message.Size2, message.Size1, message.Echo, message.Observe} {
		if rng.IntN(12) == 0 {
			reply.Options = reply.Options.Add(option(id, byte(rng.IntN(4))))
		}
	}
	return reply
}
