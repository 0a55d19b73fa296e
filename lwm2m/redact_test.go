package lwm2m_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func TestKeysAreNotLogged(t *testing.T) {
	key := []byte("sixteen bytes of")
	for _, config := range []any{
		lwm2m.ClientConfig{Endpoint: "dev", PSK: key},
		lwm2m.FetchConfig{PSK: key},
	} {
		var text, json bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("configured", "config", config)
		slog.New(slog.NewJSONHandler(&json, nil)).Info("configured", "config", config)
		for _, out := range []string{text.String(), json.String()} {
			require.Contains(t, out, "true", "that there is a key")
			require.NotContains(t, out, "sixteen")
			require.NotContains(t, out, "115 105 120") // as %v prints it
			require.NotContains(t, out, "c2l4dGVlbi")  // as JSON encodes it
		}
	}
}
