package lwm2m

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFirstBinding: the first binding is the transport of the server's URI.
func TestFirstBinding(t *testing.T) {
	for scheme, binding := range map[string]string{"coap": "U", "coaps": "U", "coap+tcp": "T", "coaps+tcp": "T"} {
		config := ClientConfig{Endpoint: "a", Server: scheme + "://h"}
		if strings.HasPrefix(scheme, "coaps") {
			config.RootCAs = x509.NewCertPool()
		}
		c, err := NewClient(config)
		require.NoError(t, err)
		require.Equal(t, announced{lifetime: 300, binding: binding}, c.control.announced(), scheme)
	}
}
