package firmware_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// numbered is a device's socket that changes the Observe numbers of its notifications: to what
// number returns, or to none if that is negative.
type numbered struct {
	net.PacketConn
	number func() int
}

func (c numbered) WriteTo(b []byte, to net.Addr) (int, error) {
	m := message.Message{Options: make(message.Options, 0, 16)}
	if _, err := coder.DefaultCoder.Decode(b, &m); err != nil || m.Type == message.Acknowledgement || !m.Options.HasOption(message.Observe) {
		return c.PacketConn.WriteTo(b, to)
	}
	m.Options = m.Options.Remove(message.Observe)
	if n := c.number(); n >= 0 {
		m.Options = m.Options.Add(message.Option{ID: message.Observe, Value: []byte{byte(n >> 8), byte(n)}})
	}
	out := make([]byte, len(b)+8)
	n, err := coder.DefaultCoder.Encode(m, out)
	if err == nil {
		_, err = c.PacketConn.WriteTo(out[:n], to)
	}
	return len(b), err
}

// TestObserveNumbers updates devices whose notifications have constant, falling or no numbers: the
// manager takes each notification only as a hint to read.
func TestObserveNumbers(t *testing.T) {
	falling := 60_000
	for name, number := range map[string]func() int{
		"constant": func() int { return 1 },
		"falling":  func() int { falling--; return falling },
		"absent":   func() int { return -1 },
	} {
		for _, delivery := range []fsm.DeliveryMode{fsm.DeliveryPush, fsm.DeliveryPull} {
			t.Run(name+" "+delivery.String(), func(t *testing.T) {
				inWorld(t, firmware.ManagerConfig{}, func(w *world) {
					script := good()
					script.Delivery, script.Pull = fsm.PushAndPull, w.fetches("10.0.1.1")
					d := firmwaretest.NewDevice(lwm2m.ClientConfig{
						Endpoint: endpoint, Server: "coap://" + serverAddress,
						Listen: func(context.Context) (net.PacketConn, error) {
							conn, err := w.net.Listen("10.0.1.1:0")
							return numbered{conn, number}, err
						},
					}, script)
					w.devices.Go(func() { _ = d.Run(w.ctx) })
					time.Sleep(time.Second)
					r := w.request()
					r.Delivery = delivery
					u := w.update(r)
					w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
					require.Equal(t, 1, u.Machine.Attempt, w.journal(u.ID))
					require.Less(t, u.Changed.Sub(u.Created), 2*time.Minute, w.journal(u.ID))
				})
			})
		}
	}
}
