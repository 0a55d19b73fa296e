package lwm2m_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// TestCreateWithoutValues: the server creates an instance without values in TLV, the only format of
// LwM2M 1.1 that can name it. Anjay refuses an empty list of SenML.
func TestCreateWithoutValues(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var format uint16
		var payload []byte
		w.foreign("</9>", []string{"lwm2m=1.1"}, func(r *coap.IncomingRequest) *coap.Response {
			format, _ = r.ContentFormat().Get()
			payload = r.Payload
			return &coap.Response{Code: coap.Created}
		})
		object := lwm2m.NewPath(9)
		_, err := w.server.Create(t.Context(), endpointName, object, nil)
		require.NoError(t, err)
		require.EqualValues(t, lwm2m.FormatTLV, format)
		require.Empty(t, payload)

		path, err := w.server.Create(t.Context(), endpointName, object, []lwm2m.Entry{{Path: lwm2m.NewPath(9, 7)}})
		require.NoError(t, err)
		require.Equal(t, lwm2m.NewPath(9, 7), path)
		require.EqualValues(t, lwm2m.FormatTLV, format)
		require.Equal(t, []byte{0x00, 7}, payload)

		_, err = w.server.Create(t.Context(), endpointName, object, []lwm2m.Entry{{Path: lwm2m.NewPath(9, 8, 3), Value: lwm2m.String("x")}})
		require.NoError(t, err)
		require.EqualValues(t, lwm2m.FormatSenMLCBOR, format)
	})
}
