package lwm2m_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

const victimAddress = "10.0.0.2:5683"

// victim starts a device at a fixed address.
func (w *world) victim(endpoint string) (stop func()) {
	w.t.Helper()
	client, stop := w.deviceStop(func(c *lwm2m.ClientConfig) {
		c.Endpoint, c.Lifetime = endpoint, 24*time.Hour
		c.Objects = []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: endpoint})}
		c.Listen = func(context.Context) (net.PacketConn, error) { return w.net.Listen(victimAddress) }
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	require.NoError(w.t, client.WaitRegistered(ctx))
	synctest.Wait()
	return stop
}

// manufacturer asks an endpoint which device it is.
func (w *world) manufacturer(endpoint string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	entries, err := w.server.Read(ctx, endpoint, lwm2m.NewPath(3, 0, 0))
	if err != nil {
		return "", err
	}
	return entries[0].Value.String(), nil
}

// forge sends a request from the victim's address.
func (w *world) forge(typ, mid byte, path []string, queries ...string) {
	b := []byte{0x40 | typ<<4 | 1, 2, 0x77, mid, mid}
	option := func(delta int, value string) {
		if n := len(value); n < 13 {
			b = append(b, byte(delta<<4|n))
		} else {
			b = append(b, byte(delta<<4|13), byte(n-13))
		}
		b = append(b, value...)
	}
	for i, s := range path {
		option(max(0, 11*(1-i)), s)
	}
	option(1, "\x28") // Content-Format: 40
	for i, q := range queries {
		option(max(0, 3*(1-i)), q)
	}
	b = append(b, 0xff)
	b = append(b, "</3/0>"...)
	w.net.Forge(netip.MustParseAddrPort(victimAddress), netip.MustParseAddrPort(serverAddress), b)
}

// TestForgedRegister registers other names from the forged address of a device: the device keeps
// its address.
func TestForgedRegister(t *testing.T) {
	for name, typ := range map[string]byte{"CON": 0, "NON": 1} {
		t.Run(name, func(t *testing.T) {
			store := &memoryStore{}
			config := lwm2m.ServerConfig{Registrations: store}
			inWorld(t, config, func(t *testing.T, w *world) {
				w.victim("victim")
				w.device(func(c *lwm2m.ClientConfig) {
					c.Lifetime = 24 * time.Hour
					c.Listen = func(context.Context) (net.PacketConn, error) { return w.net.Listen("10.0.0.3:0") }
				})
				id := func(endpoint string) string { r, _ := w.server.Registration(endpoint); return r.ID }
				before := id(endpointName)
				w.events.kinds()
				for i := range byte(20) {
					w.forge(typ, i, []string{"rd"}, "ep=evil")
					w.forge(typ, 100+i, []string{"rd"}, "ep=urn:dev:os:1")
					require.True(t, w.server.Reachable("victim"))
					time.Sleep(time.Second)
				}
				got, err := w.manufacturer("victim")
				require.NoError(t, err)
				require.Equal(t, "victim", got)
				require.False(t, w.server.Registered("evil"))
				require.Equal(t, before, id(endpointName), "another device's registration stays, too")
				_, err = w.manufacturer(endpointName)
				require.NoError(t, err)
				require.Empty(t, w.events.kinds(), "nothing has happened")
				time.Sleep(time.Minute)
				require.Equal(t, before, store.get(endpointName).ID)
				require.False(t, store.get("evil").Ended.IsZero())
			})
		})
	}
}

// TestForgedRegisterOfOneWhoSleeps: the device at the forged address does not answer. It keeps its
// registration and its address.
func TestForgedRegisterOfOneWhoSleeps(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		stop := w.victim("victim")
		w.net.SetLink(serverIP, deviceIP, simnet.Conditions{Cut: true})
		w.forge(0, 1, []string{"rd"}, "ep=evil")
		time.Sleep(10 * time.Minute)
		require.True(t, w.server.Reachable("victim"))
		require.False(t, w.server.Registered("evil"))
		w.forge(0, 2, []string{"rd"}, "ep=evil")
		w.net.SetLink(serverIP, deviceIP, simnet.Conditions{})
		got, err := w.manufacturer("victim")
		require.NoError(t, err)
		require.Equal(t, "victim", got)
		stop()
	})
}

// TestForgedUpdate forges an Update by which a registered device moves to the address of another.
func TestForgedUpdate(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.victim("victim")
		w.device(func(c *lwm2m.ClientConfig) {
			c.Lifetime = 24 * time.Hour
			c.Objects = []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: endpointName})}
		})
		r, _ := w.server.Registration(endpointName)
		w.forge(0, 1, []string{"rd", r.ID}, "lt=80000")
		time.Sleep(time.Minute)
		for _, endpoint := range []string{"victim", endpointName} {
			require.True(t, w.server.Reachable(endpoint))
			got, err := w.manufacturer(endpoint)
			require.NoError(t, err)
			require.Equal(t, endpoint, got)
		}
		after, _ := w.server.Registration(endpointName)
		require.Equal(t, r.Address, after.Address)
	})
}

// TestAddressIsGivenToAnother: a NAT gives the address of a device to another one, which registers
// there, or moves there. The server reaches the new device, and sends it nothing that is meant for
// the earlier one.
func TestAddressIsGivenToAnother(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.forgetful("first", func() { w.victim("second") })
		got, err := w.manufacturer("second")
		require.NoError(t, err)
		require.Equal(t, "second", got)
		require.False(t, w.server.Reachable("first"))
		require.True(t, w.server.Registered("first"))
		_, err = w.manufacturer("first")
		require.ErrorIs(t, err, lwm2m.ErrUnreachable)
	})
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		ep := coap.New(coap.Config{Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
			return content(0, "mover")
		})})
		defer ep.Close()
		server := netip.MustParseAddrPort(serverAddress)
		do := func(conn net.PacketConn, path []string, queries ...string) *coap.Response {
			peer, err := ep.DialPacket(conn, server)
			require.NoError(t, err)
			resp, err := ep.Do(t.Context(), peer, &coap.Request{
				Code: coap.POST, Path: path, Queries: queries, ContentFormat: coap.FormatOf(40), Payload: []byte("</3/0>"),
			})
			require.NoError(t, err)
			return resp
		}
		conn, err := w.net.Listen("10.0.0.3:0")
		require.NoError(t, err)
		require.Equal(t, coap.Created, do(conn, []string{"rd"}, "ep=mover").Code)
		r, _ := w.server.Registration("mover")
		w.forgetful("first", func() {
			conn, err := w.net.Listen(victimAddress)
			require.NoError(t, err)
			require.Equal(t, coap.Changed, do(conn, []string{"rd", r.ID}).Code)
			synctest.Wait()
		})
		got, err := w.manufacturer("mover")
		require.NoError(t, err)
		require.Equal(t, "mover", got)
		require.False(t, w.server.Reachable("first"))
		after, _ := w.server.Registration("mover")
		require.Equal(t, victimAddress, after.Address.String())
	})
}

// TestRegisterDuringAForgedOne: a device registers at a forged address while the server verifies
// it. It gets no answer that would make it wait, and registers when it retries.
func TestRegisterDuringAForgedOne(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.forgetful("first", func() {
			w.forge(0, 1, []string{"rd"}, "ep=evil")
			time.Sleep(10 * time.Second) // no device is there to reject the answer
			conn, err := w.net.Listen(victimAddress)
			require.NoError(t, err)
			ep := coap.New(coap.Config{})
			defer ep.Close()
			peer, err := ep.DialPacket(conn, netip.MustParseAddrPort(serverAddress))
			require.NoError(t, err)
			began := time.Now()
			resp, err := ep.Do(t.Context(), peer, &coap.Request{
				Code: coap.POST, Path: []string{"rd"}, Queries: []string{"ep=second"}, ContentFormat: coap.FormatOf(40), Payload: []byte("</3/0>"),
			})
			require.NoError(t, err)
			require.Equal(t, coap.Created, resp.Code)
			require.Less(t, time.Since(began), 30*time.Second)
			synctest.Wait()
			require.True(t, w.server.Reachable("second"))
			require.False(t, w.server.Registered("evil"))
		})
	})
}

// forgetful registers a device, cuts it off without a De-register, and runs f.
func (w *world) forgetful(endpoint string, f func()) {
	w.t.Helper()
	stop := w.victim(endpoint)
	w.cut(true)
	stop()
	w.cut(false)
	f()
}

// TestUpdateAtAnotherAddressOfTheServer: a device sends its Update to another address of the
// server.
func TestUpdateAtAnotherAddressOfTheServer(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		const other = "10.0.0.9:5683"
		conn, err := w.net.Listen(other)
		require.NoError(t, err)
		go w.server.ServePacket(t.Context(), conn)
		synctest.Wait()
		ep := coap.New(coap.Config{})
		defer ep.Close()
		var path []string
		for i, server := range []string{serverAddress, other} {
			conn, err := w.net.Listen(deviceAddress)
			require.NoError(t, err)
			peer, err := ep.DialPacket(conn, netip.MustParseAddrPort(server))
			require.NoError(t, err)
			request := &coap.Request{Code: coap.POST, Path: path}
			if i == 0 {
				request = &coap.Request{
					Code: coap.POST, Path: []string{"rd"}, Queries: []string{"ep=" + endpointName},
					ContentFormat: coap.FormatOf(40), Payload: []byte("</3/0>"),
				}
			}
			_, err = ep.Do(t.Context(), peer, request)
			require.NoError(t, err)
			r, _ := w.server.Registration(endpointName)
			require.Equal(t, server, r.Local.String())
			path = []string{"rd", r.ID}
		}
	})
}
