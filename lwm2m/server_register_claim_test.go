package lwm2m

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
)

func psk(name string) *dtls.Identity { return &dtls.Identity{PSKIdentity: []byte(name)} }

// staticCredentials map identities to endpoints.
type staticCredentials map[string]string

func (c staticCredentials) PSK(context.Context, string) ([]byte, error) { return []byte{1}, nil }

func (c staticCredentials) Endpoint(_ context.Context, id Identity) (string, error) {
	e, ok := c[id.Name]
	if !ok {
		return "", ErrUnknownIdentity
	}
	return e, nil
}

func TestEndpointAndIdentity(t *testing.T) {
	secured := coap.Peer{Transport: coap.DTLS, Addr: peerA.Addr, ID: 7}
	s := MustServer(ServerConfig{Credentials: staticCredentials{"id-a": "a", "b": "b"}})
	try := func(id *dtls.Identity, queries ...string) ResponseCode {
		p := peerA
		if id != nil {
			p = secured
		}
		return ResponseCode(serve(s, incoming{
			code: coap.POST, path: "/rd", queries: queries, format: 40, payload: objects, peer: p, identity: id,
		}).Code)
	}
	created := ResponseCode(coap.Created)
	require.Equal(t, CodeForbidden, try(psk("id-a"), "ep=b", "lwm2m=1.1"))
	require.Equal(t, CodeForbidden, try(psk("id-a"), "ep=id-a", "lwm2m=1.1"))
	require.Equal(t, CodeForbidden, try(psk("id-c"), "ep=c", "lwm2m=1.1"))
	require.Equal(t, CodeBadRequest, try(psk("id-a"), "lwm2m=1.0"))
	require.Equal(t, created, try(nil, "ep=a"), "never used credentials")
	require.Equal(t, created, try(psk("id-a"), "lwm2m=1.1"), "ep is known from the identity")
	reg, ok := s.Registration("a")
	require.True(t, ok)
	require.Equal(t, Identity{Kind: IdentityPSK, Name: "id-a"}, reg.Identity)
	require.True(t, reg.Secured)
	require.Equal(t, CodeForbidden, try(nil, "ep=a"), "it has used credentials")

	// The locations of other devices look like unknown ones.
	for _, id := range []*dtls.Identity{nil, psk("b")} {
		for _, code := range []coap.Code{coap.POST, coap.DELETE} {
			resp := serve(s, incoming{code: code, path: "/rd/" + reg.ID, format: -1, peer: secured, identity: id})
			require.Equal(t, CodeNotFound, ResponseCode(resp.Code))
		}
	}
	resp := serve(s, incoming{code: coap.DELETE, path: "/rd/" + reg.ID, format: -1, peer: secured, identity: psk("id-a")})
	require.Equal(t, coap.Deleted, resp.Code)
	require.Equal(t, CodeForbidden, try(nil, "ep=a"), "it has used credentials, though it is gone")
}

// TestAddressMovesToAnotherDevice: a device registers from the address that another one had.
// Requests to the other one must not reach it.
func TestAddressMovesToAnotherDevice(t *testing.T) {
	s := MustServer(ServerConfig{})
	register(s, "ep=a")
	register(s, "ep=b")
	_, err := s.Read(t.Context(), "a", NewPath(3))
	require.ErrorIs(t, err, ErrUnreachable)
}

func TestAuthorize(t *testing.T) {
	var refuse error
	s := MustServer(ServerConfig{Authorize: func(_ context.Context, r Registration) error {
		require.Equal(t, "a", r.Endpoint)
		return refuse
	}})
	for _, test := range []struct {
		err  error
		want ResponseCode
	}{
		{nil, ResponseCode(coap.Created)},
		{errors.New("no"), CodeForbidden},
		{ErrBadRequest, CodeBadRequest},
		{&ResponseError{Code: CodeTooManyRequests}, CodeTooManyRequests},
	} {
		refuse = test.err
		require.Equal(t, test.want, ResponseCode(register(s, "ep=a").Code))
	}
}
