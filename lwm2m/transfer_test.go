package lwm2m_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestLifetimeEndsDuringTransfer pushes to a device that sends no Update meanwhile, like some
// devices: its registration lasts as long as the transfer.
func TestLifetimeEndsDuringTransfer(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.plain()
		require.Equal(t, coap.Created, d.say("ep="+endpointName, "lt=60"))
		w.net.SetDefault(simnet.Conditions{Delay: 5 * time.Second})
		body := bytes.Repeat([]byte{7}, 50_000)
		began := time.Now()
		var reached int64
		err := errOf(w.server.Do(t.Context(), lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0), Body: bytes.NewReader(body), Size: int64(len(body)),
			Progress: func(done, _ int64) {
				reached = done
				require.True(t, w.server.Registered(endpointName))
			},
		}))
		require.NoError(t, err)
		require.Greater(t, time.Since(began), 5*time.Minute)
		require.Equal(t, int64(len(body)), reached)
		require.NotContains(t, w.events.kinds(), lwm2m.EventExpired)
		time.Sleep(5 * time.Minute)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventExpired}, w.events.kinds())
	})
}

// TestWriteIsNotRepeated loses the answer to a request that changes something, and then the device
// registers again or moves. The device may have carried the request out, so the server does not
// repeat it, and the caller gets ErrDeliveryUnknown.
func TestWriteIsNotRepeated(t *testing.T) {
	for request, call := range map[string]func(*lwm2m.Server) error{
		"write": func(s *lwm2m.Server) error {
			return s.WriteValue(context.Background(), endpointName, lwm2m.NewPath(1, 0, 1), lwm2m.Integer(900))
		},
		"execute": func(s *lwm2m.Server) error {
			return s.Execute(context.Background(), endpointName, lwm2m.NewPath(5, 0, 2), "")
		},
		"delete": func(s *lwm2m.Server) error {
			return s.Delete(context.Background(), endpointName, lwm2m.NewPath(1, 0))
		},
		"create": func(s *lwm2m.Server) error {
			_, err := s.Create(context.Background(), endpointName, lwm2m.NewPath(1), []lwm2m.Entry{
				{Path: lwm2m.NewPath(1, 7, 1), Value: lwm2m.Integer(900)},
			})
			return err
		},
	} {
		for change, queries := range map[string][]string{
			"registers again": {"ep=" + endpointName}, "registers again, in queue mode": {"ep=" + endpointName, "Q", "lwm2m=1.1"},
			"moves": nil,
		} {
			t.Run(request+", "+change, func(t *testing.T) {
				inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
					var carried atomic.Int32
					config := coap.Config{Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
						carried.Add(1)
						return &coap.Response{Code: coap.Changed}
					})}
					say := func(address string, path []string, queries []string) []string {
						ep := coap.New(config)
						t.Cleanup(func() { _ = ep.Close() })
						conn, err := w.net.Listen(address)
						require.NoError(t, err)
						peer, err := ep.DialPacket(net.PacketConn(conn), netip.MustParseAddrPort(serverAddress))
						require.NoError(t, err)
						resp, err := ep.Do(context.Background(), peer, &coap.Request{
							Code: coap.POST, Path: path, Queries: queries, ContentFormat: coap.FormatOf(40), Payload: []byte("</1/0>,</5/0>"),
						})
						require.NoError(t, err)
						require.Equal(t, uint8(2), uint8(resp.Code>>5))
						var location []string
						for _, o := range resp.Options {
							location = append(location, string(o.Value))
						}
						return location
					}
					first := []string{"ep=" + endpointName}
					if queries != nil {
						first = queries
					}
					path := say("10.0.0.2:1000", []string{"rd"}, first)
					synctest.Wait()
					w.net.SetLink(deviceIP, serverIP, simnet.Conditions{Cut: true})
					done := make(chan error, 1)
					go func() { done <- call(w.server) }()
					time.Sleep(time.Second)
					require.EqualValues(t, 1, carried.Load())
					if queries != nil {
						path = []string{"rd"}
					}
					say("10.0.0.3:1000", path, queries)
					require.ErrorIs(t, <-done, lwm2m.ErrDeliveryUnknown)
					time.Sleep(10 * time.Minute)
					require.EqualValues(t, 1, carried.Load(), "nor is it later")
				})
			})
		}
	}
}

// TestObservationEndsWithItsRegistration ends the registration in each way: the observation ends at
// once, and the server drops later notifications.
func TestObservationEndsWithItsRegistration(t *testing.T) {
	for name, then := range map[string]func(w *world, d *plain){
		"registers again": func(_ *world, d *plain) {
			d.path = []string{"rd"}
			d.say("ep=" + endpointName)
		},
		"moves": func(w *world, d *plain) {
			conn, err := w.net.Listen(deviceAddress)
			require.NoError(w.t, err)
			d.peer, err = d.ep.DialPacket(conn, netip.MustParseAddrPort(serverAddress))
			require.NoError(w.t, err)
			d.say()
		},
		"de-registers": func(w *world, d *plain) {
			_, err := d.ep.Do(context.Background(), d.peer, &coap.Request{Code: coap.DELETE, Path: d.path})
			require.NoError(w.t, err)
		},
		"expires": func(*world, *plain) { time.Sleep(2 * time.Minute) },
		"is deleted": func(w *world, _ *plain) {
			require.NoError(w.t, w.server.DeleteDevice(context.Background(), endpointName))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				d := w.plain()
				require.Equal(t, coap.Created, d.say("ep="+endpointName, "lt=60"))
				values := make(chan []lwm2m.Entry, 10)
				o, err := w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3), func(e []lwm2m.Entry) { values <- e })
				require.NoError(t, err)
				synctest.Wait()
				at := <-d.observers
				at.Notify(content(0, "1.0.1"), false)
				synctest.Wait()
				require.Len(t, values, 2)
				then(w, d)
				synctest.Wait()
				select {
				case <-o.Done():
					require.Error(t, o.Err())
				default:
					t.Fatal("the observation goes on")
				}
				at.Notify(content(0, "1.0.2"), false)
				time.Sleep(time.Second)
				require.Len(t, values, 2)
			})
		})
	}
}
