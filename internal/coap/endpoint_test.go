package coap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

func TestSmallRequest(t *testing.T) {
	h := handler(func(r *coap.IncomingRequest) *coap.Response {
		require.Equal(t, "/rd/7", r.Path())
		require.Equal(t, []string{"lt=300", "b=U"}, r.Queries())
		n, ok := r.ContentFormat().Get()
		require.True(t, ok)
		require.EqualValues(t, 40, n)
		require.Equal(t, "</1/0>", string(r.Payload))
		return &coap.Response{Code: coap.Created, Options: coap.AppendString(nil, coap.LocationPath, "rd")}
	})
	inWorld(t, coap.Config{Handler: h}, coap.Config{}, func(t *testing.T, w *world) {
		resp, err := w.device.Do(t.Context(), w.toServer, &coap.Request{
			Code:          coap.POST,
			Path:          []string{"rd", "7"},
			Queries:       []string{"lt=300", "b=U"},
			ContentFormat: coap.FormatOf(40),
			Payload:       []byte("</1/0>"),
		})
		require.NoError(t, err)
		require.Equal(t, coap.Created, resp.Code)
		require.Equal(t, []string{"rd"}, coap.Strings(resp.Options, coap.LocationPath))
	})
}

func TestRequestToDevice(t *testing.T) {
	h := handler(func(r *coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Payload: []byte("3")}
	})
	inWorld(t, coap.Config{}, coap.Config{Handler: h}, func(t *testing.T, w *world) {
		resp, err := w.server.Do(t.Context(), w.toDevice, &coap.Request{Code: coap.GET, Path: []string{"5", "0", "3"}})
		require.NoError(t, err)
		require.Equal(t, "3", string(resp.Payload))
	})
}
