package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestFailures: errors of the transport become errors of this package.
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

// slowKeys are credentials that answer when their context ends.
type slowKeys struct{}

func (slowKeys) PSK(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return []byte{1}, nil
}

func (slowKeys) Endpoint(context.Context, Identity) (string, error) { return "", nil }

// TestSlowCredentials: the server waits for Credentials for the documented time.
func TestSlowCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := MustServer(ServerConfig{Credentials: slowKeys{}})
		begin := time.Now()
		s.psk([]byte("id"))
		require.Equal(t, 5*time.Second, time.Since(begin))
	})
}

// TestCategories: each code has one category, and an error of the category is answered with the
// code.
func TestCategories(t *testing.T) {
	categories := map[ResponseCode]error{
		0x80: ErrBadRequest, 0x81: ErrUnauthorized, 0x83: ErrForbidden, 0x84: ErrNotFound, 0x85: ErrMethodNotAllowed,
		0x86: ErrNotAcceptable, 0x88: ErrIncomplete, 0x89: ErrConflict, 0x8c: ErrPreconditionFailed, 0x8d: ErrTooLarge,
		0x8f: ErrUnsupportedFormat, 0xa0: ErrInternal, 0xa1: ErrNotImplemented, 0xa3: ErrUnavailable,
	}
	for code := ResponseCode(0x80); code < 0xc0; code++ {
		category, ok := categories[code]
		if !ok {
			category = ErrRefused
		} else {
			require.Equal(t, code, codeOf(fmt.Errorf("%w: here", category)))
		}
		for _, other := range append(slices.Collect(maps.Values(categories)), ErrRefused) {
			require.Equal(t, other == category, errors.Is(&ResponseError{Code: code}, other), "%v is %v", code, other)
		}
	}
	require.Equal(t, CodeBadRequest, codeOf(ErrMalformed))
	require.Equal(t, CodeBadRequest, codeOf(ErrPath))
}

// TestNoticesThatWait: while a function is slow, notices wait, and repeated ones are merged.
func TestNoticesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var got []Notice
		c := &Call{server: MustServer(ServerConfig{}), request: Request{Notice: func(n Notice) {
			<-release
			got = append(got, n)
		}}}
		for _, n := range []Notice{NoticeSent, 7, 8, 8, 7, 7, NoticeSent} {
			c.notice(n)
			synctest.Wait()
		}
		close(release)
		synctest.Wait()
		require.Equal(t, []Notice{NoticeSent, 7, 8, 7}, got)
	})
}
