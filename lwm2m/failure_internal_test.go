package lwm2m

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestFailures: what the transport says about a request is said in the words of this package.
func TestFailures(t *testing.T) {
	all := []error{ErrTimeout, ErrUnreachable, ErrTooLarge, ErrUnavailable, ErrClosed, ErrChanged}
	for from, want := range map[error]error{
		coap.ErrTimeout: ErrTimeout, coap.ErrReset: ErrUnreachable, coap.ErrPeerGone: ErrUnreachable, coap.ErrNoPeer: ErrUnreachable,
		coap.ErrTooLarge: ErrTooLarge, coap.ErrBusy: ErrUnavailable, coap.ErrClosed: ErrClosed, coap.ErrETagChanged: ErrChanged,
		coap.ErrProtocol: nil,
	} {
		got := (&Call{request: Request{Operation: OpRead}}).failure(fmt.Errorf("%w: here", from))
		require.ErrorIs(t, got, from)
		for _, kind := range all {
			if kind == want {
				require.ErrorIs(t, got, kind, from)
			} else {
				require.NotErrorIs(t, got, kind, from)
			}
		}
	}
}

// slowKeys are credentials that answer when they are told to stop.
type slowKeys struct{}

func (slowKeys) PSK(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return []byte{1}, nil
}

func (slowKeys) Endpoint(context.Context, Identity) (string, error) { return "", nil }

// TestSlowCredentials gives credentials the time that is documented.
func TestSlowCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(ServerConfig{Credentials: slowKeys{}})
		begin := time.Now()
		s.psk([]byte("id"))
		require.Equal(t, 5*time.Second, time.Since(begin))
	})
}
