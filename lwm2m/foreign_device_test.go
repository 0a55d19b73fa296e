package lwm2m_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// foreignDevice is a device that is not our client: the test decides its answers.
type foreignDevice struct {
	t        *testing.T
	endpoint *coap.Endpoint
	server   coap.Peer

	mu       sync.Mutex
	requests []string // "GET /3/0/3 accept=112 format=0"
}

// foreign registers a device with a handler. Its lifetime is an hour unless queries have another.
func (w *world) foreign(links string, queries []string, handle func(*coap.IncomingRequest) *coap.Response) *foreignDevice {
	w.t.Helper()
	d := &foreignDevice{t: w.t}
	d.endpoint = coap.New(coap.Config{Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
		d.mu.Lock()
		d.requests = append(d.requests, r.Code.String()+" "+r.Path())
		d.mu.Unlock()
		return handle(r)
	})})
	conn, err := w.net.Listen(deviceAddress)
	require.NoError(w.t, err)
	d.server, err = d.endpoint.DialPacket(conn, netip.MustParseAddrPort(serverAddress))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { d.endpoint.Close() })
	if !slices.ContainsFunc(queries, func(q string) bool { return strings.HasPrefix(q, "lt=") }) {
		queries = append(queries, "lt=3600")
	}
	resp, err := d.endpoint.Do(context.Background(), d.server, &coap.Request{
		Code: coap.POST, Path: []string{"rd"}, Queries: append([]string{"ep=" + endpointName}, queries...),
		ContentFormat: coap.FormatOf(40), Payload: []byte(links),
	})
	require.NoError(w.t, err)
	require.Equal(w.t, coap.Created, resp.Code)
	synctest.Wait()
	return d
}

func (d *foreignDevice) seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.requests
	d.requests = nil
	return seen
}

func content(format uint16, payload string) *coap.Response {
	return &coap.Response{Code: coap.Content, ContentFormat: coap.FormatOf(format), Payload: []byte(payload)}
}
