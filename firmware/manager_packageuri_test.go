package firmware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
)

const cdn = "https://cdn.example.com/fw/1.1.0?signature="

// TestPackageURI has another server serve the packages. The device gets what PackageURI returns,
// the journal has no secret of it, and Served is all that this server needs to know.
func TestPackageURI(t *testing.T) {
	var asked []string
	config := firmware.ManagerConfig{PackageURI: func(ctx context.Context, u firmware.Update, p fsm.Protocol) (string, error) {
		_, limited := ctx.Deadline()
		asked = append(asked, fmt.Sprint(u.Endpoint, " ", p, " ", limited))
		if p != fsm.ProtocolHTTPS {
			return "", nil
		}
		return cdn + "secret", nil
	}}
	inWorld(t, config, func(w *world) {
		script := good()
		script.Protocols = []fsm.Protocol{fsm.ProtocolHTTPS}
		script.Pull = func(_ context.Context, uri string) fsm.Result {
			if uri != cdn+"secret" {
				return fsm.ResultInvalidURI
			}
			return fsm.ResultDefault
		}
		device := w.device(script)
		u := w.update(w.request())
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Contains(t, device.Log(), "uri "+cdn+"secret")
		journal := w.journal(u.ID)
		require.Contains(t, journal, "https://cdn.example.com/[secret]")
		require.NotContains(t, journal, "signature")
		require.Empty(t, u.Tokens)
		for _, line := range asked {
			require.Regexp(t, "^"+endpoint+" .* true$", line)
		}
		require.Len(t, asked, 7, "each protocol once, and the one that was chosen once more: %s", asked)
	})
}

// TestPackageURIBeforePush: a device that takes both pulls from the other server, unless the
// request or the profile wants a push. It is pushed to if the other server has no protocol of the
// device.
func TestPackageURIBeforePush(t *testing.T) {
	for name, test := range map[string]struct {
		request  firmware.Request
		protocol fsm.Protocol // that the other server has
		want     string       // a prefix of the device's log
	}{
		"auto":                {firmware.Request{}, fsm.ProtocolHTTPS, "uri https://cdn.example.com"},
		"push":                {firmware.Request{Delivery: firmware.DeliveryPush}, fsm.ProtocolHTTPS, "push"},
		"a profile that push": {firmware.Request{Profile: "push"}, fsm.ProtocolHTTPS, "push"},
		"no protocol":         {firmware.Request{}, fsm.ProtocolHTTP, "push"},
	} {
		config := firmware.ManagerConfig{PackageURI: func(_ context.Context, _ firmware.Update, p fsm.Protocol) (string, error) {
			if p == test.protocol {
				return p.String() + "://cdn.example.com/fw", nil
			}
			return "", nil
		}}
		inWorld(t, config, func(w *world) {
			script := good()
			script.Delivery, script.Protocols = firmware.PushAndPull, []fsm.Protocol{fsm.ProtocolHTTPS}
			device := w.device(script)
			test.request.Endpoint, test.request.Image = endpoint, w.image.ID
			w.ends(w.update(test.request), fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.True(t, strings.HasPrefix(device.Log()[0], test.want), "%s: %s", name, device.Log())
		})
	}
}

// TestNotMounted: a Delivery whose ServeCoAP is not mounted is not offered by CoAP. One log line
// says so, and the journal says why a pull that was asked for is not possible.
func TestNotMounted(t *testing.T) {
	var lines bytes.Buffer
	serve := firmware.DeliveryConfig{Logger: slog.New(slog.NewTextHandler(&lines, nil))}
	inWorldThatServes(t, serve, firmware.ManagerConfig{}, func(w *world) {
		w.srv.HandleFunc("/", nil)
		script := good()
		script.Delivery = firmware.PushAndPull
		device := w.device(script)
		r := w.request()
		r.Delivery = firmware.DeliveryPull
		for range 2 {
			u := w.update(r)
			w.ends(u, fsm.OutcomeFailed, fsm.ReasonNotServed)
			require.Contains(t, w.journal(u.ID), "does not serve them by CoAP")
		}
		require.NotContains(t, strings.Join(device.Log(), "\n"), "uri coap")
		require.Equal(t, 1, strings.Count(lines.String(), "Delivery.ServeCoAP is not mounted at DeliveryConfig.Prefix"), lines.String())
		require.Contains(t, lines.String(), "level=WARN")

		w.srv.HandleFunc("/fw/", w.delivery.ServeCoAP)
		w.ends(w.update(r), fsm.OutcomeSucceeded, fsm.ReasonVersion)
	})
}

// TestPackageURIBesideDelivery has one protocol served elsewhere, and the others here.
func TestPackageURIBesideDelivery(t *testing.T) {
	config := firmware.ManagerConfig{PackageURI: func(_ context.Context, _ firmware.Update, p fsm.Protocol) (string, error) {
		if p == fsm.ProtocolHTTPS {
			return cdn, nil
		}
		return "", nil
	}}
	serve := firmware.DeliveryConfig{BaseURLs: bases(map[fsm.Protocol]string{fsm.ProtocolCoAP: "coap://" + serverAddress + "/fw/"})}
	for _, protocol := range []fsm.Protocol{fsm.ProtocolHTTPS, fsm.ProtocolCoAP} {
		inWorldThatServes(t, serve, config, func(w *world) {
			script := good()
			script.Protocols = []fsm.Protocol{protocol}
			device := w.device(script)
			u := w.update(w.request())
			w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.True(t, strings.HasPrefix(device.Log()[0], "uri "+protocol.String()+"://"), device.Log())
		})
	}
}

// TestPackageURIFails makes PackageURI fail in every way. The journal names the reason. The manager
// asks again if the failure may pass, and writes no URI that is not valid.
func TestPackageURIFails(t *testing.T) {
	hung := make(chan struct{})
	for name, test := range map[string]struct {
		misbehave func(ctx context.Context) (string, error)
		journal   string
		outcome   fsm.Outcome
	}{
		"an error": {func(context.Context) (string, error) { return "", errors.New("the bucket is away") },
			"the bucket is away", fsm.OutcomeSucceeded},
		"a panic": {func(context.Context) (string, error) { panic("a bug of the program") },
			"panicked", fsm.OutcomeSucceeded},
		"no return": {func(context.Context) (string, error) { <-hung; return cdn, nil },
			"has not returned within 10s", fsm.OutcomeSucceeded},
		"late": {func(context.Context) (string, error) {
			time.Sleep(11 * time.Second)
			return "https://late.example.com/", nil
		},
			"has not returned within 10s", fsm.OutcomeSucceeded},
		"until its context ends": {func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			"", fsm.OutcomeSucceeded},
		"too long": {func(context.Context) (string, error) { return longURI(256), nil },
			"256 bytes", fsm.OutcomeFailed},
		"another scheme": {func(context.Context) (string, error) { return "http://cdn.example.com/", nil },
			"scheme https", fsm.OutcomeFailed},
		"no URI":  {func(context.Context) (string, error) { return "https://[::1/", nil }, "no URI", fsm.OutcomeFailed},
		"a path":  {func(context.Context) (string, error) { return "/fw/1", nil }, "scheme https", fsm.OutcomeFailed},
		"no host": {func(context.Context) (string, error) { return "https:///fw/1", nil }, "no host", fsm.OutcomeFailed},
		"a space": {func(context.Context) (string, error) { return "https://cdn.example.com/a b", nil }, "escaped", fsm.OutcomeFailed},
		"a byte":  {func(context.Context) (string, error) { return "https://cdn.example.com/\x00", nil }, "escaped", fsm.OutcomeFailed},
		"fragment": {func(context.Context) (string, error) { return "https://cdn.example.com/#secret", nil },
			"fragment", fsm.OutcomeFailed},
		"user info": {func(context.Context) (string, error) { return "https://a:secret@cdn.example.com/", nil },
			"user info", fsm.OutcomeFailed},
		"the longest": {func(context.Context) (string, error) { return longURI(255), nil }, "", fsm.OutcomeSucceeded},
	} {
		t.Run(name, func(t *testing.T) {
			bad := atomic.Bool{}
			bad.Store(true)
			config := firmware.ManagerConfig{PackageURI: func(ctx context.Context, _ firmware.Update, p fsm.Protocol) (string, error) {
				switch {
				case p != fsm.ProtocolHTTPS:
					return "", nil
				case bad.Load():
					return test.misbehave(ctx)
				}
				return cdn, nil
			}}
			inWorld(t, config, func(w *world) {
				hung = make(chan struct{})
				script := good()
				script.Protocols = []fsm.Protocol{fsm.ProtocolHTTPS}
				device := w.device(script)
				u := w.begin(w.request())
				time.Sleep(5 * time.Minute)
				bad.Store(false)
				u = w.wait(u.ID, 24*time.Hour)
				require.Equal(t, test.outcome, u.Machine.Outcome, w.journal(u.ID))
				if test.outcome == fsm.OutcomeFailed {
					require.Equal(t, fsm.ReasonNotServed, u.Machine.Reason)
					require.Empty(t, device.Log())
				}
				journal := w.journal(u.ID)
				require.Contains(t, journal, test.journal)
				require.NotContains(t, journal, "secret@")
				require.NotContains(t, journal, "#secret")
				require.NotContains(t, device.Log(), "late.example.com")
				close(hung)
			})
		})
	}
}

// TestPackageURIOutage has PackageURI fail for hours: the journal stays short.
func TestPackageURIOutage(t *testing.T) {
	config := firmware.ManagerConfig{PackageURI: func(context.Context, firmware.Update, fsm.Protocol) (string, error) {
		return "", errors.New("the bucket is away")
	}}
	inWorld(t, config, func(w *world) {
		w.device(good())
		r := w.request()
		r.Deadline = 6 * time.Hour
		u := w.update(r)
		w.ends(u, fsm.OutcomeTimedOut, fsm.ReasonDeadline)
		require.Less(t, strings.Count(w.journal(u.ID), "\n"), 120)
	})
}

// TestPackageURIHangs has many updates ask for URIs that never come: another update goes on.
func TestPackageURIHangs(t *testing.T) {
	hung := make(chan struct{})
	config := firmware.ManagerConfig{PackageURI: func(context.Context, firmware.Update, fsm.Protocol) (string, error) {
		<-hung
		return "", nil
	}}
	inWorld(t, config, func(w *world) {
		hung = make(chan struct{})
		for n := range 300 {
			name := fmt.Sprint("hung-", n)
			w.deviceNamed(name, fmt.Sprintf("10.1.%d.%d", n/200, 1+n%200), good())
			r := w.request()
			r.Endpoint = name
			w.begin(r)
		}
		script := good()
		script.Delivery = fsm.PushOnly
		w.device(script)
		time.Sleep(time.Minute)
		u := w.begin(w.request())
		u = w.wait(u.ID, 2*time.Minute)
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		close(hung)
	})
}

func longURI(size int) string {
	const begin = "https://cdn.example.com/"
	return begin + strings.Repeat("x", size-len(begin))
}
