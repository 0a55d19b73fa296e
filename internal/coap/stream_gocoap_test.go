package coap_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/mux"
	gonet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/net/blockwise"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/pkg/runner/periodic"
	"github.com/plgd-dev/go-coap/v3/tcp"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/peers"
)

// TestStreamGoCoAPClient makes go-coap's client push to our server and pull from it over TCP.
func TestStreamGoCoAPClient(t *testing.T) {
	peers.Mark(t, "go-coap", "client", "coap+tcp", "block-wise PUT and GET")
	body := bodyOf(100_000)
	got := make(chan []byte, 1)
	server := coap.New(coap.Config{MaxBody: 1 << 20, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		if r.Code == coap.GET {
			return &coap.Response{Code: coap.Content, Body: bytes.NewReader(body), Size: int64(len(body)), ETag: []byte{7}}
		}
		got <- bytes.Clone(r.Payload)
		return &coap.Response{Code: coap.Changed}
	})})
	l := listenTCP(t)
	serveStream(t, server, l)
	client, err := tcp.Dial(l.Addr().String(), periodicRunner(t), options.WithBlockwise(true, blockwise.SZX1024, time.Minute))
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.Ping(t.Context())) // until it has our CSM, go-coap does not use blocks
	resp, err := client.Put(t.Context(), "/5/0/0", message.AppOctets, bytes.NewReader(body))
	require.NoError(t, err)
	require.Equal(t, codes.Changed, resp.Code())
	require.True(t, bytes.Equal(body, <-got))
	resp, err = client.Get(t.Context(), "/fw")
	require.NoError(t, err)
	read, err := io.ReadAll(resp.Body())
	require.NoError(t, err)
	require.True(t, bytes.Equal(body, read), "%d bytes", len(read))
}

// TestStreamGoCoAPServer makes our client push to go-coap's server and pull from it over TCP.
func TestStreamGoCoAPServer(t *testing.T) {
	peers.Mark(t, "go-coap", "server", "coap+tcp", "block-wise PUT and GET")
	body := bodyOf(100_000)
	got := make(chan []byte, 1)
	router := mux.NewRouter()
	require.NoError(t, router.Handle("/x", mux.HandlerFunc(func(w mux.ResponseWriter, r *mux.Message) {
		if r.Code() == codes.GET {
			_ = w.SetResponse(codes.Content, message.AppOctets, bytes.NewReader(body))
			return
		}
		pushed, _ := io.ReadAll(r.Body())
		got <- pushed
		_ = w.SetResponse(codes.Changed, message.TextPlain, nil)
	})))
	l, err := gonet.NewTCPListener("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	peer := tcp.NewServer(periodicRunner(t), options.WithMux(router), options.WithBlockwise(true, blockwise.SZXBERT, time.Minute), options.WithMaxMessageSize(1<<20))
	done := make(chan error, 1)
	go func() { done <- peer.Serve(l) }()
	defer func() {
		peer.Stop()
		<-done
		_ = l.Close()
	}()
	client := coap.New(coap.Config{})
	defer client.Close()
	to, err := client.Dial(t.Context(), coap.TCP, l.Addr().String())
	require.NoError(t, err)
	resp, err := client.Do(t.Context(), to, &coap.Request{Code: coap.PUT, Path: []string{"x"}, Payload: body})
	require.NoError(t, err)
	require.Equal(t, coap.Changed, resp.Code)
	require.True(t, bytes.Equal(body, <-got))
	var into bytes.Buffer
	resp, err = client.Do(t.Context(), to, &coap.Request{Code: coap.GET, Path: []string{"x"}, Into: &into})
	require.NoError(t, err)
	require.Equal(t, coap.Content, resp.Code)
	require.True(t, bytes.Equal(body, into.Bytes()), "%d bytes", into.Len())
}

// periodicRunner is go-coap's timer, in a form that ends with the test.
func periodicRunner(t *testing.T) options.PeriodicRunnerOpt {
	return options.WithPeriodicRunner(periodic.New(t.Context().Done(), 10*time.Millisecond))
}
