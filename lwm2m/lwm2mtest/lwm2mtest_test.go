package lwm2mtest_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

func TestObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(1)
		server := lwm2mtest.Serve(t, net, "10.0.0.1:5683", lwm2m.ServerConfig{})
		on, dim := lwm2m.NewPath(3311, 0, 5850), lwm2m.NewPath(3311, 0, 5851)
		light := lwm2mtest.NewObject(3311,
			lwm2m.Entry{Path: dim, Value: lwm2m.Integer(50)}, lwm2m.Entry{Path: on, Value: lwm2m.Boolean(false)})
		light.OnExecute = func(context.Context, lwm2m.Path, string) error { return lwm2m.ErrMethodNotAllowed }
		client := lwm2mtest.Register(t, net, "10.0.0.2:0", lwm2m.ClientConfig{
			Endpoint: "a", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{light},
		})
		require.True(t, client.Registered())

		require.NoError(t, server.WriteValue(t.Context(), "a", on, lwm2m.Boolean(true)))
		calls := light.Calls()
		require.Len(t, calls, 1)
		require.Equal(t, on, calls[0].Path)
		require.Empty(t, light.Calls())

		entries, err := server.Read(t.Context(), "a", lwm2m.NewPath(3311, 0))
		require.NoError(t, err)
		require.Len(t, entries, 2)
		require.ErrorIs(t, server.Execute(t.Context(), "a", lwm2m.NewPath(3311, 0, 1), ""), lwm2m.ErrMethodNotAllowed)
		light.Remove(dim)
		_, err = server.Read(t.Context(), "a", dim)
		require.ErrorIs(t, err, lwm2m.ErrNotFound)
		require.True(t, light.Value(dim) == lwm2m.Value{})
	})
}
