package lwm2m

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFirstBinding: the transport of the server's URI is what the device says that it can be reached by.
func TestFirstBinding(t *testing.T) {
	for scheme, binding := range map[string]string{"coap": "U", "coaps": "U", "coap+tcp": "T", "coaps+tcp": "T"} {
		c := NewClient(ClientConfig{Endpoint: "a", Server: scheme + "://h"})
		require.NoError(t, c.configErr)
		require.Equal(t, told{lifetime: 300, binding: binding}, c.control.told(), scheme)
	}
}
