package lwm2m_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

const day = 24 * time.Hour

// plain is a device that answers requests, and sends its own only by say.
type plain struct {
	w    *world
	ep   *coap.Endpoint
	peer coap.Peer
	path []string

	observers chan *coap.Observer
}

func (w *world) plain() *plain {
	observers := make(chan *coap.Observer, 10)
	ep := coap.New(coap.Config{Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
		if o := r.Accept(); o != nil {
			observers <- o
		}
		return content(0, "1.0.0")
	})})
	w.t.Cleanup(func() { _ = ep.Close() })
	conn, err := w.net.Listen(deviceAddress)
	require.NoError(w.t, err)
	peer, err := ep.DialPacket(conn, netip.MustParseAddrPort(serverAddress))
	require.NoError(w.t, err)
	return &plain{w: w, ep: ep, peer: peer, path: []string{"rd"}, observers: observers}
}

// say sends a Register at first, and then Updates.
func (p *plain) say(queries ...string) coap.Code {
	r := &coap.Request{Code: coap.POST, Path: p.path, Queries: queries}
	if len(p.path) == 1 {
		r.ContentFormat, r.Payload = coap.FormatOf(40), []byte("</3/0>")
	}
	resp, err := p.ep.Do(context.Background(), p.peer, r)
	require.NoError(p.w.t, err)
	if resp.Code == coap.Created {
		p.path = nil
		for _, o := range resp.Options {
			p.path = append(p.path, string(o.Value))
		}
	}
	synctest.Wait()
	return resp.Code
}

// TestNoLifetime registers without a lifetime: the registration lasts while the device sends
// messages, over restarts too.
func TestNoLifetime(t *testing.T) {
	for _, version := range []string{"", "lwm2m=1.1", "lwm2m=1.2"} {
		t.Run(version, func(t *testing.T) {
			config := lwm2m.ServerConfig{Registrations: &memoryStore{}}
			inWorld(t, config, func(t *testing.T, w *world) {
				d := w.plain()
				queries := []string{"ep=" + endpointName, "lt=0"}
				if version != "" {
					queries = append(queries, version)
				}
				require.Equal(t, coap.Created, d.say(queries...))
				r, _ := w.server.Registration(endpointName)
				require.Zero(t, r.Lifetime)
				require.True(t, r.Expires().IsZero())
				require.True(t, r.Ended.IsZero())
				lasts := func(days time.Duration) {
					t.Helper()
					time.Sleep(days * day)
					require.True(t, w.server.Registered(endpointName))
				}
				lasts(29)
				require.Equal(t, "1.0.0", w.read("/3/0/3"))
				lasts(29)
				require.Equal(t, "1.0.0", w.read("/3/0/3"), "an answer counts")
				lasts(10)
				w.stop()
				w.start(config)
				lasts(18)
				w.stop()
				w.start(config)
				time.Sleep(5 * day)
				require.False(t, w.server.Registered(endpointName))
				require.Equal(t, []lwm2m.EventKind{lwm2m.EventExpired}, w.events.kinds())
				require.Equal(t, coap.NotFound, d.say())
			})
		})
	}
}

// TestNoLifetimeForAWhile changes between a lifetime and none by Updates, with a MaxSilence of two
// days.
func TestNoLifetimeForAWhile(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{MaxSilence: 2 * day}, func(t *testing.T, w *world) {
		d := w.plain()
		require.Equal(t, coap.Created, d.say("ep="+endpointName, "lt=60"))
		require.Equal(t, coap.Changed, d.say("lt=0"))
		time.Sleep(47 * time.Hour)
		require.True(t, w.server.Registered(endpointName))
		require.Equal(t, coap.Changed, d.say(), "it stays without")
		time.Sleep(47 * time.Hour)
		require.Equal(t, coap.Changed, d.say("lt=60"))
		time.Sleep(time.Minute + time.Second)
		require.False(t, w.server.Registered(endpointName))
	})
}
