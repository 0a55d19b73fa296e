package lwm2m_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// A keyring is Credentials that a test can change.
type keyring struct {
	mu        sync.Mutex
	keys      map[string][]byte
	endpoints map[lwm2m.Identity]string
	asked     int
	running   int
	most      int
	trouble   func(context.Context) error // called before each answer
}

func (k *keyring) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

func (k *keyring) ask(ctx context.Context, f func() bool) error {
	k.mu.Lock()
	k.asked++
	k.running++
	k.most = max(k.most, k.running)
	trouble := k.trouble
	k.mu.Unlock()
	defer k.set(func() { k.running-- })
	if trouble != nil {
		if err := trouble(ctx); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !f() {
		return lwm2m.ErrUnknownIdentity
	}
	return nil
}

func (k *keyring) PSK(ctx context.Context, identity string) (key []byte, err error) {
	err = k.ask(ctx, func() (ok bool) {
		key, ok = k.keys[identity]
		return ok
	})
	return key, err
}

func (k *keyring) Endpoint(ctx context.Context, id lwm2m.Identity) (endpoint string, err error) {
	err = k.ask(ctx, func() (ok bool) {
		endpoint, ok = k.endpoints[id]
		return ok
	})
	return endpoint, err
}

// ringWorld is a network with a server on DTLS, and a raw device on it, in virtual time.
type ringWorld struct {
	t      *testing.T
	net    *simnet.Network
	ring   *keyring
	server *lwm2m.Server
	device *coap.Endpoint
	peer   coap.Peer
	path   []string // of the registration
}

// inRingWorld runs f with a device that the identity "id", with the key 01, has registered as
// "dev".
func inRingWorld(t *testing.T, f func(t *testing.T, w *ringWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ring := &keyring{keys: map[string][]byte{"id": {1}}, endpoints: map[lwm2m.Identity]string{pskIdentity("id"): "dev"}}
		w := &ringWorld{t: t, net: simnet.New(1), ring: ring}
		w.server = lwm2m.MustServer(lwm2m.ServerConfig{Credentials: ring})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		conn, err := w.net.Listen(serverAddress)
		require.NoError(t, err)
		go func() { done <- w.server.ServeDTLS(ctx, conn) }()
		defer func() {
			if w.device != nil {
				require.NoError(t, w.device.Close())
			}
			cancel()
			require.NoError(t, <-done)
		}()
		require.NoError(t, w.connect("id", 1))
		require.Equal(t, coap.Created, w.register("dev"))
		f(t, w)
	})
}

// connect makes an association in place of the earlier one.
func (w *ringWorld) connect(identity string, key byte) error {
	if w.device != nil {
		require.NoError(w.t, w.device.Close())
	}
	w.device = coap.New(coap.Config{Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, ContentFormat: coap.FormatOf(0), Payload: []byte("1")}
	})})
	conn, err := w.net.Listen(deviceAddress)
	require.NoError(w.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server := netip.MustParseAddrPort(serverAddress)
	w.peer, err = w.device.DialDTLS(ctx, conn, server, dtls.Credentials{Identity: []byte(identity), Key: []byte{key}})
	return err
}

// do sends a request; the code is 0 without an answer.
func (w *ringWorld) do(code coap.Code, path []string, format int, payload string, queries ...string) coap.Code {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	r := &coap.Request{Code: code, Path: path, Queries: queries, Payload: []byte(payload)}
	if format >= 0 {
		r.ContentFormat = coap.FormatOf(uint16(format))
	}
	resp, err := w.device.Do(ctx, w.peer, r)
	synctest.Wait() // the device may get the answer before the server has finished
	if err != nil {
		return 0
	}
	if resp.Code == coap.Created {
		w.path = nil
		for _, o := range resp.Options {
			if o.ID == coap.LocationPath {
				w.path = append(w.path, string(o.Value))
			}
		}
	}
	return resp.Code
}

func (w *ringWorld) register(endpoint string) coap.Code {
	return w.do(coap.POST, []string{"rd"}, 40, "</3/0>", "ep="+endpoint, "lwm2m=1.1", "lt=86400")
}

func (w *ringWorld) update() coap.Code { return w.do(coap.POST, w.path, -1, "") }

// speaks sends each request of the device other than Register.
var speaks = map[string]func(w *ringWorld) coap.Code{
	"update": (*ringWorld).update,
	"send": func(w *ringWorld) coap.Code {
		return w.do(coap.POST, []string{"dp"}, 110, `[{"n":"/3/0/9","v":1}]`)
	},
	"de-register": func(w *ringWorld) coap.Code { return w.do(coap.DELETE, w.path, -1, "") },
}
