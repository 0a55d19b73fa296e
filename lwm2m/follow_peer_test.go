package lwm2m_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/mux"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/udp"
	"github.com/plgd-dev/go-coap/v3/udp/client"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/peers"
	"github.com/otago-iot/otago/lwm2m"
)

// goCoapSensor is a device on the stack of go-coap with one resource that can be observed.
type goCoapSensor struct {
	mu       sync.Mutex
	value    string
	number   uint32 // of the last notification
	observer message.Token
}

func (d *goCoapSensor) serve(w mux.ResponseWriter, r *mux.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var opts []message.Option
	switch v, err := r.Options().Observe(); {
	case err == nil && v == 0:
		d.number++
		d.observer = append(message.Token(nil), r.Token()...)
		opts = append(opts, message.Option{ID: message.Observe, Value: []byte{byte(d.number)}})
	case err == nil:
		d.observer = nil
	}
	_ = w.SetResponse(codes.Content, message.TextPlain, bytes.NewReader([]byte(d.value)), opts...)
}

// set changes the value and notifies the observer, if there is one.
func (d *goCoapSensor) set(t *testing.T, conn *client.Conn, value string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.value = value
	if d.observer == nil {
		return
	}
	d.number++
	m := conn.AcquireMessage(t.Context())
	defer conn.ReleaseMessage(m)
	m.SetCode(codes.Content)
	m.SetToken(d.observer)
	m.SetObserve(d.number)
	m.SetContentFormat(message.TextPlain)
	m.SetBody(bytes.NewReader([]byte(value)))
	require.NoError(t, conn.WriteMessage(m))
}

func (d *goCoapSensor) observed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.observer != nil
}

// TestFollowGoCoapDevice follows a device on the stack of go-coap over real sockets: it registers,
// is restarted without a word, and is no longer observed in the end.
func TestFollowGoCoapDevice(t *testing.T) {
	peers.Mark(t, "go-coap", "LwM2M client", "coap", "Follow: observe again after a restart, cancel")
	srv := lwm2m.MustServer(lwm2m.ServerConfig{Models: sensorModels(t)})
	conn, _ := listen()
	serving, stopServing := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.ServePacket(serving, conn) }()
	var got followLog
	stop := srv.Follow([]lwm2m.Path{sensorValue}, nil, got.add)
	wait := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			got.mu.Lock()
			defer got.mu.Unlock()
			n := len(got.all)
			return n > 0 && fmt.Sprint(how(got.all[n-1]), got.all[n-1].Entries) == want
		}, 20*time.Second, 5*time.Millisecond, want)
	}
	for run := range 2 {
		d := &goCoapSensor{value: "20"}
		router := mux.NewRouter()
		require.NoError(t, router.Handle("/3303/0/5700", mux.HandlerFunc(d.serve)))
		device, err := udp.Dial(conn.LocalAddr().String(), options.WithMux(router), options.WithErrors(quiet), clockwork(t))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		post, err := device.NewPostRequest(ctx, "/rd", message.AppLinkFormat, bytes.NewReader([]byte("</3/0>,</3303/0>")))
		require.NoError(t, err)
		for _, q := range []string{"lwm2m=1.1", "ep=gocoap", "lt=60"} {
			post.AddQuery(q)
		}
		resp, err := device.Do(post)
		cancel()
		require.NoError(t, err)
		require.Equal(t, codes.Created, resp.Code())

		wait("first[{/3303/0/5700 20 0001-01-01 00:00:00 +0000 UTC}]")
		d.set(t, device, "21.5")
		wait("notify[{/3303/0/5700 21.5 0001-01-01 00:00:00 +0000 UTC}]")
		if run == 1 {
			stop()
			require.Eventually(t, func() bool { return !d.observed() }, 20*time.Second, 5*time.Millisecond)
		}
		require.NoError(t, device.Close())
		<-device.Done()
	}
	stopServing()
	require.NoError(t, <-served)
}
