package firmware_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// ways returns the ways of an update's attempts, such as "push coap".
func (w *world) ways(id string) string {
	var ways []string
	for e, err := range w.mgr.Journal(w.ctx, id) {
		require.NoError(w.t, err)
		_, way, _ := strings.Cut(e.Detail, ": ")
		switch e.Name {
		case "push":
			ways = append(ways, "push")
		case "write_uri":
			way, _, _ = strings.Cut(strings.TrimPrefix(way, "pull by "), ",")
			ways = append(ways, way)
		}
	}
	return strings.Join(ways, " ")
}

// TestWayRefused has the device refuse a push, or the URI: the update changes to the other way if
// it may.
func TestWayRefused(t *testing.T) {
	for _, refused := range []string{"push", "uri"} {
		for _, code := range []lwm2m.ResponseCode{
			lwm2m.CodeBadRequest, lwm2m.CodeNotFound, lwm2m.CodeMethodNotAllowed, lwm2m.CodeTooLarge, lwm2m.CodeUnsupportedFormat,
			lwm2m.CodeInternal, lwm2m.CodeNotImplemented, lwm2m.CodeForbidden,
		} {
			for _, explicit := range []bool{false, true} {
				t.Run(refused+" "+code.String(), func(t *testing.T) {
					t.Parallel()
					inWorld(t, firmware.ManagerConfig{}, func(w *world) {
						p := &puppet{method: fsm.PushAndPull}
						p.answer = func(asked string) error {
							if asked == refused {
								return &lwm2m.ResponseError{Code: code}
							}
							if asked == "pushed" || asked == "uri" {
								go p.show(fsm.Downloaded, fsm.ResultDefault)
							}
							return nil
						}
						w.puppet(p)
						r := w.request()
						r.Attempts = 3
						if refused == "uri" {
							r.Profile = "pull"
						}
						if explicit {
							r.Delivery = map[string]fsm.DeliveryMode{"push": fsm.DeliveryPush, "uri": fsm.DeliveryPull}[refused]
						}
						u := w.begin(r)
						if explicit {
							u = w.wait(u.ID, 10*time.Hour)
							require.Equal(t, fsm.OutcomeFailed, u.Machine.Outcome)
							require.Equal(t, 3, u.Machine.Attempt)
							require.Zero(t, p.asked("push")+p.asked("uri")-p.asked(refused))
							return
						}
						w.phase(u.ID, fsm.PhaseExecuting)
						want := map[string]string{"push": "push coap", "uri": "coap push"}[refused]
						require.Equal(t, want, w.ways(u.ID), w.journal(u.ID))
					})
				})
			}
		}
	}
}

// bases are the base URLs of a server that claims to serve several protocols.
func bases(list map[fsm.Protocol]string) func(lwm2m.Registration, fsm.Protocol) string {
	return func(_ lwm2m.Registration, p fsm.Protocol) string { return list[p] }
}

var nowhere = map[fsm.Protocol]string{
	fsm.ProtocolHTTPS: "https://203.0.113.1/fw/", fsm.ProtocolHTTP: "http://203.0.113.1/fw/",
	fsm.ProtocolCoAP: "coap://" + serverAddress + "/fw/",
}

// TestURIsLeadNowhere serves packages by CoAP, and claims to serve them by HTTP too. The device
// tries the URIs, and the update finds the way that works.
func TestURIsLeadNowhere(t *testing.T) {
	for _, test := range []struct {
		result    fsm.Result
		protocols []fsm.Protocol
		want      fsm.Protocol
		ways      string
		ok        bool
	}{
		{fsm.ResultConnectionLost, []fsm.Protocol{fsm.ProtocolHTTPS, fsm.ProtocolHTTP, fsm.ProtocolCoAP}, "", "https http coap", true},
		{fsm.ResultConnectionLost, []fsm.Protocol{fsm.ProtocolHTTP, fsm.ProtocolCoAP}, "", "http coap", true},
		{fsm.ResultConnectionLost, nil, "", "coap", true},
		{fsm.ResultUnsupProtocol, []fsm.Protocol{fsm.ProtocolHTTPS, fsm.ProtocolHTTP, fsm.ProtocolCoAP}, "", "https http coap", true},
		{fsm.ResultConnectionLost, []fsm.Protocol{fsm.ProtocolHTTP, fsm.ProtocolCoAP}, fsm.ProtocolHTTP, "http http http", false},
		{fsm.ResultUnsupProtocol, []fsm.Protocol{fsm.ProtocolHTTP, fsm.ProtocolCoAP}, fsm.ProtocolHTTP, "http", false},
		{fsm.ResultOutOfMemory, []fsm.Protocol{fsm.ProtocolHTTP, fsm.ProtocolCoAP}, "", "http coap", true},
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			inWorldThatServes(t, firmware.DeliveryConfig{BaseURLs: bases(nowhere)}, firmware.ManagerConfig{}, func(w *world) {
				script := good()
				script.Protocols = test.protocols
				script.Pull = func(ctx context.Context, uri string) fsm.Result {
					if strings.HasPrefix(uri, "http") {
						time.Sleep(10 * time.Second)
						return test.result
					}
					return w.fetches("10.0.1.1")(ctx, uri)
				}
				w.device(script)
				r := w.request()
				r.Protocol, r.Attempts = test.want, 3
				u := w.update(r)
				require.Equal(t, test.ok, u.Machine.Outcome == fsm.OutcomeSucceeded, w.journal(u.ID))
				require.Equal(t, test.ways, w.ways(u.ID), w.journal(u.ID))
				journal := w.journal(u.ID)
				if strings.Contains(test.ways, "http") {
					require.Contains(t, journal, "://203.0.113.1/fw/[secret]")
				}
				if strings.HasPrefix(test.ways, "http") && test.result != fsm.ResultUnsupProtocol {
					require.Contains(t, journal, "the device has not requested the package from this server")
				}
			})
		})
	}
}

// TestPullBreaks breaks downloads off in the middle: the update resumes by the same way once, and
// then changes to another one.
func TestPullBreaks(t *testing.T) {
	inWorldThatServes(t, firmware.DeliveryConfig{BaseURLs: bases(nowhere)}, firmware.ManagerConfig{}, func(w *world) {
		script := good()
		script.Delivery, script.Protocols = fsm.PushAndPull, []fsm.Protocol{fsm.ProtocolCoAP}
		script.Pull = func(ctx context.Context, uri string) fsm.Result {
			w.fetches("10.0.1.1")(ctx, uri)
			return fsm.ResultConnectionLost
		}
		w.device(script)
		r := w.request()
		r.Profile = "pull"
		u := w.update(r)
		w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Equal(t, "coap coap push", w.ways(u.ID), w.journal(u.ID))
		require.Contains(t, w.journal(u.ID), "the server sent 5000 of 5000 bytes")
	})
}

// TestOffers: the server chooses the protocols for a device when the device is there, not before.
func TestOffers(t *testing.T) {
	t.Run("made before the device registers", func(t *testing.T) {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			u := w.begin(w.request())
			time.Sleep(time.Hour)
			script := good()
			script.Pull = w.fetches("10.0.1.1")
			w.device(script)
			w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.Contains(t, w.journal(u.ID), "coap://"+serverAddress)
		})
	})
	var mu sync.Mutex
	base := ""
	changing := func(_ lwm2m.Registration, p fsm.Protocol) string {
		mu.Lock()
		defer mu.Unlock()
		if p == fsm.ProtocolCoAP {
			return base
		}
		return ""
	}
	t.Run("answers that change", func(t *testing.T) {
		inWorldThatServes(t, firmware.DeliveryConfig{BaseURLs: changing}, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Pull = fails(1, fsm.ResultConnectionLost)
			u := w.begin(w.request())
			time.Sleep(time.Minute)
			mu.Lock()
			base = "coap://first.example/fw/"
			mu.Unlock()
			w.device(script)
			w.until(u.ID, "the first failure", func(u firmware.Update) bool { return u.Machine.Reported == fsm.ResultConnectionLost })
			mu.Lock()
			base = "coap://second.example/fw/"
			mu.Unlock()
			w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.Regexp(t, "(?s)first.example.*second.example", w.journal(u.ID))
		})
	})
	for name, f := range map[string]func(lwm2m.Registration, fsm.Protocol) string{
		"panics":   func(lwm2m.Registration, fsm.Protocol) string { panic("a bug of the program") },
		"none":     func(lwm2m.Registration, fsm.Protocol) string { return "" },
		"too long": func(lwm2m.Registration, fsm.Protocol) string { return "coap://" + strings.Repeat("x", 127) },
		"no URL":   func(lwm2m.Registration, fsm.Protocol) string { return "\x00 %zz" },
		"query":    func(lwm2m.Registration, fsm.Protocol) string { return "coap://a/b?c=d" },
		"relative": func(lwm2m.Registration, fsm.Protocol) string { return "a/b" },
		"slow none": func(lwm2m.Registration, fsm.Protocol) string {
			time.Sleep(10 * time.Second)
			return ""
		},
	} {
		for _, protocol := range []fsm.Protocol{"", fsm.ProtocolCoAP} {
			t.Run(name+" "+protocol.String(), func(t *testing.T) {
				inWorldThatServes(t, firmware.DeliveryConfig{BaseURLs: f}, firmware.ManagerConfig{}, func(w *world) {
					w.device(good())
					r := w.request()
					r.Protocol = protocol
					u := w.update(r)
					w.ends(u, fsm.OutcomeFailed, fsm.ReasonNotServed)
					require.Equal(t, fsm.ResultUnsupProtocol, u.Machine.Result)
					require.Less(t, u.Machine.Ended.Sub(u.Created), 3*time.Minute)
				})
			})
		}
	}
	t.Run("none, but it can be pushed", func(t *testing.T) {
		inWorldThatServes(t, firmware.DeliveryConfig{BaseURLs: bases(nil)}, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Delivery = fsm.PushAndPull
			w.device(script)
			w.ends(w.update(w.request()), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		})
	})
	t.Run("gone between choice and URI", func(t *testing.T) {
		asked := 0
		once := func(_ lwm2m.Registration, p fsm.Protocol) string {
			mu.Lock()
			defer mu.Unlock()
			if p == fsm.ProtocolHTTP {
				if asked++; asked == 1 {
					return "http://203.0.113.1/"
				}
			}
			return map[fsm.Protocol]string{fsm.ProtocolCoAP: "coap://" + serverAddress + "/fw/"}[p]
		}
		inWorldThatServes(t, firmware.DeliveryConfig{BaseURLs: once}, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Protocols = []fsm.Protocol{fsm.ProtocolHTTP, fsm.ProtocolCoAP}
			w.device(script)
			u := w.update(w.request())
			w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.Contains(t, w.journal(u.ID), "no Package URI for http")
		})
	})
}
