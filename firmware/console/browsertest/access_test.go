package browsertest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/console"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
)

// oneKey are credentials with the key of one device.
type oneKey struct{ endpoint, key string }

func (k oneKey) PSK(_ context.Context, identity string) ([]byte, error) {
	if identity != k.endpoint {
		return nil, lwm2m.ErrUnknownIdentity
	}
	return []byte(k.key), nil
}

func (k oneKey) Endpoint(_ context.Context, id lwm2m.Identity) (string, error) { return id.Name, nil }

// TestRefused: a device with a wrong key is found from the first view, from the search and from the
// update that waits for it, with what is wrong and what to do.
func TestRefused(t *testing.T) {
	w := newWorld(t, "", func(s *settings) {
		s.server.Credentials = oneKey{"meter", "0123456789abcdef"}
		s.api.Status = func() httpapi.Program {
			return httpapi.Program{Degraded: []httpapi.Degradation{{What: "fan", Why: "The fan is loud.", ToDo: "Listen to it."}}}
		}
	})
	image := w.image("1.1.0")
	w.device("dev-000", slow)
	w.device("meter", slow, func(c *lwm2m.ClientConfig) {
		c.Server, c.PSKIdentity, c.PSK = "coaps://10.0.0.1:5684", "meter", []byte("another key, 16b")
	})
	w.read(1)
	w.post("/updates", `{"endpoint":"meter","image":"`+image+`"}`, nil)

	const why = "The key of the device and that of this server differ"
	b := w.open("")
	b.see("1 was refused in the last hour.")
	b.see("The fan is loud. Since")
	b.click("1 was refused")
	b.see(why)
	b.look("fleet-refused")
	b.click("meter")
	b.see("This server does not know meter")
	b.see("This server has refused it")
	b.see(why)
	b.accessible("device-refused")
	b.click("1.1.0")
	b.see("Waits for the device to register. The device is to act. If nothing changes, the update times out in 23 h")
	b.see("This server has never heard of the device.")
	b.see(why)
	b.look("update-refused")
	b.key("/")
	b.typed("mete")
	b.see("Refused meter")
}

// TestSignIn: the page asks for a token until the server takes it, keeps it in this tab, and
// forgets it.
func TestSignIn(t *testing.T) {
	w := newWorld(t, "", func(s *settings) {
		s.authorize = func(r *http.Request, _ httpapi.Access) error {
			if r.Header.Get("Authorization") != "Bearer secret" {
				return httpapi.ErrUnauthenticated
			}
			return nil
		}
	})
	b := w.open("")
	b.see("Sign in to")
	require.Equal(t, "token", b.focused(), "the field has the focus")
	b.typed("wrong")
	b.key("Enter")
	b.see("The server does not know this token.")
	b.accessible("sign-in")
	b.shot("sign-in")
	b.typed("secret")
	b.key("Enter")
	b.see("No device has registered yet.")
	b.gone("Sign in to")
	b.do(reload)
	b.see("No device has registered yet.")
	b.click("Sign out")
	b.see("Sign in to")
}

// TestForeignOrigin: a page of another origin than the API works if the API trusts that origin, and
// else says so.
func TestForeignOrigin(t *testing.T) {
	var page atomic.Pointer[http.Handler]
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*page.Load()).ServeHTTP(w, r) }))
	t.Cleanup(other.Close)
	show := func(trusted ...string) *world {
		w := newWorld(t, "", func(s *settings) { s.api.TrustedOrigins = trusted })
		now, err := console.New(console.Config{API: w.api})
		require.NoError(t, err)
		page.Store(&now)
		w.url = other.URL + "/"
		return w
	}
	b := show(other.URL).open("")
	b.see("No device has registered yet.")

	b.await("CORS policy")
	b.await("ERR_")
	show()
	b.do(reload)
	b.see("it does not trust pages of " + other.URL + " (TrustedOrigins)")
}

// TestTrace: an operator sees the messages of a device as they come and go.
func TestTrace(t *testing.T) {
	w := newWorld(t, "")
	w.fleet(1, slow)
	b := w.open("#/devices/dev-000")
	b.click("Messages of this device")
	b.click("Trace its messages")
	b.see("The trace ends in")
	w.get("/devices/dev-000/resources/3/0/3", nil)
	b.see("server → 0.01 GET")
	b.see("device → 2.05")
	b.look("trace")
	b.click("Stop the trace")
	b.see("Stopped, after")
	b.see("device → 2.05")
}
