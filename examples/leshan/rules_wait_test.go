package leshan_test

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/leshan"
	"github.com/otago-iot/otago/lwm2m"
)

// Rule 6: a request stays open until the device answers, and an equal one joins it.
func TestRule6RequestStaysOpen(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.onURI = pause(40 * time.Second) // a client that downloads before it answers
		w.django.update("a", "2.0")
		w.django.with(func() { w.django.updates[0].operations[0].status = "QUEUED"; _ = w.django.process("a") })
		time.Sleep(30 * time.Second)
		require.Empty(t, w.django.requests())
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"PUT 5/1 -> 200", "PUT 5/1 -> 200"}, w.django.requests())
		require.Len(t, d.written(), 1)

		d.state(2)
		answer := request(w.bridge, http.MethodPut, "/api/clients/a/5/0/1?timeout=5&format=CBOR",
			`{"id": 1, "kind": "singleResource", "value": "/binaries/2.0.bin", "type": "STRING"}`)
		require.Equal(t, http.StatusOK, answer.Code)
		require.Len(t, d.written(), 1, "it has taken effect")
	})
}

// A device that took the URI, but whose answer was lost, says so by its State.
func TestRule6StateIsAnAnswer(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.onURI = pause(time.Hour) // longer than the server waits
		w.django.update("a", "2.0")
		time.Sleep(5 * time.Minute)
		require.Empty(t, w.django.requests())
		d.state(1)
		require.Equal(t, []string{"PUT 5/1 -> 200"}, w.django.requests())
	})
}

// The sample firmware of flownexus answers the write of the URI after its download, installs
// without a restart, keeps its version, and does not reset its Result: twice.
func TestSampleFirmware(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.onURI = pause(8 * time.Minute)
		d.onUpdate = func() error {
			d.update.Set(statePath, lwm2m.Integer(0))
			d.update.Set(resultPath, lwm2m.Integer(1))
			return nil
		}
		for n, version := range []string{"2.0", "3.0"} {
			u := w.django.update("a", version)
			time.Sleep(7 * time.Minute)
			require.Zero(t, u.result)
			time.Sleep(time.Minute)
			d.state(2)
			w.settle()
			require.Len(t, d.written(), n+1)
			require.Equal(t, n+1, d.executes())
			require.EqualValues(t, 1, u.result, version)
		}
	})
}

// With the flag Leshan's 504 comes, and the write goes on.
func TestLiteral504(t *testing.T) {
	inWorld(t, func(c *leshan.Config) { c.Literal504 = true }, func(w *world) {
		d := w.register("a", "1.0")
		d.onURI = pause(10 * time.Second)
		begin := time.Now()
		w.django.update("a", "2.0")
		for len(w.django.requests()) == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		require.Equal(t, 5*time.Second, time.Since(begin).Truncate(time.Second))
		require.Equal(t, []string{"PUT 5/1 -> 504"}, w.django.requests())
		time.Sleep(10 * time.Second)
		d.restart("") // Django sends what is queued
		require.Equal(t, []string{"PUT 5/1 -> 504", "PUT 5/1 -> 200"}, w.django.requests())
		require.Len(t, d.written(), 1)
	})
}

// Rule 8: a post is repeated only if there was no connection.
func TestRule8NoBlindRepeat(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		w.django.forget()
		d.result(7) // no update is active: 400
		require.Equal(t, []string{"5/5=7"}, w.django.list("a"))

		w.django.forget()
		w.django.queueDown = true
		w.django.updates = []*update{{endpoint: "a", version: "2.0"}}
		d.update.Set(statePath, lwm2m.Integer(2))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"5/3=2"}, w.django.list("a"), "an answer after 19 s, 500, and no repetition")
		w.django.queueDown = false

		w.django.forget()
		w.django.drop = true
		d.sensor.Set(temperature, lwm2m.Float(1))
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"3303/5700=1.0"}, w.django.list("a"))
		require.Contains(t, w.log.String(), "what became of a post is unknown")

		w.django.forget()
		w.django.with(func() { w.django.drop, w.django.delay = false, time.Hour })
		d.sensor.Set(temperature, lwm2m.Float(2))
		time.Sleep(30 * time.Second)
		w.django.with(func() { w.django.delay = 0 })
		d.sensor.Set(temperature, lwm2m.Float(3))
		time.Sleep(2 * time.Hour)
		values := slices.DeleteFunc(w.django.list("a"), func(what string) bool { return what == "10240/2" })
		require.Equal(t, []string{"3303/5700=3.0", "3303/5700=2.0"}, values, "the next post after the limit")
	})
}

// Rule 9: what Django would refuse, or store wrongly, is left out, and the rest arrives.
func TestRule9Filter(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.about.Set(lwm2m.NewPath(3, 0, 1), lwm2m.String(strings.Repeat("x", 256)))
		d.about.Set(lwm2m.NewPath(3, 0, 2), lwm2m.String(strings.Repeat("ü", 255)))
		d.about.Set(lwm2m.NewPath(3, 0, 9), lwm2m.Integer(95))
		d.about.Set(lwm2m.NewPath(3, 0, 13), lwm2m.Time(time.Unix(2, 0)))
		d.about.Set(lwm2m.NewPath(3, 0, 17), lwm2m.String("a\x00b"))
		d.about.Set(lwm2m.NewPath(3, 0, 22, 0), lwm2m.ObjectLink(3, 0))
		d.about.Set(lwm2m.NewPath(3, 0, 6, 0), lwm2m.Integer(1))
		d.about.Set(lwm2m.NewPath(3, 0, 99), lwm2m.String("unknown"))
		w.django.forget()
		d.restart("")
		require.Equal(t, []string{"10240/0", "3/0=Example 3/2=" + strings.Repeat("ü", 255) + " 3/9=95 3/13=2000 3/16=U", "10240/2"},
			w.django.list("a"))
		for _, p := range w.django.posts {
			require.Equal(t, http.StatusCreated, p.status, p.what)
		}
		w.django.forget()
		for _, f := range []float64{1e-10, 24, math.NaN(), math.Inf(1)} {
			d.sensor.Set(temperature, lwm2m.Float(f))
			w.settle()
		}
		require.Equal(t, []string{"3303/5700=1.0E-10", "3303/5700=24.0"}, w.django.list("a"))
	})
}
