package leshan_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

var (
	versionPath = lwm2m.NewPath(3, 0, 3)
	statePath   = lwm2m.NewPath(5, 0, 3)
	resultPath  = lwm2m.NewPath(5, 0, 5)
	temperature = lwm2m.NewPath(3303, 0, 5700)
)

// pause is a device that answers late.
func pause(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		return nil
	}
}

// A Register, the reads after it, and an update without trouble: the flow of flownexus.
func TestUpdateSucceeds(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		require.Equal(t, []string{"10240/0", "3/0=Example 3/16=U", "3/3=1.0", "10240/2"}, w.django.list("a"))
		require.True(t, w.django.registered["a"])

		w.django.forget()
		u := w.django.update("a", "2.0")
		w.settle()
		require.Equal(t, []string{"/binaries/2.0.bin"}, d.written())
		d.state(1)
		d.state(2)
		require.Equal(t, 1, d.executes())
		d.state(3)
		require.Equal(t, []string{"5/3=1", "5/3=2", "5/3=3"}, w.django.list("a"))

		w.django.forget()
		d.end()
		d.update.Set(statePath, lwm2m.Integer(0))
		d.update.Set(resultPath, lwm2m.Integer(1))
		d.about.Set(versionPath, lwm2m.String("2.0"))
		d.connect()
		require.Equal(t, []string{"10240/0", "3/0=Example 3/16=U", "3/3=2.0", "5/5=1", "5/3=0", "10240/2"}, w.django.list("a"))
		require.EqualValues(t, 1, u.result)
		require.Equal(t, []string{"PUT 5/1 -> 200", "POST 5/2 -> 200"}, w.django.requests())
	})
}

// Rule 1: the posts of one endpoint do not overlap; those of several endpoints do.
func TestRule1OnePostAtATime(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.django.delay = time.Second
		devices := []*device{w.register("a", "1.0"), w.register("b", "1.0"), w.register("c", "1.0")}
		time.Sleep(time.Minute)
		w.django.forget()
		for n := range 10 {
			for _, d := range devices {
				d.sensor.Set(temperature, lwm2m.Float(float64(n)))
			}
			time.Sleep(100 * time.Millisecond)
		}
		begin := time.Now()
		for len(w.django.list("a")) < 10 || len(w.django.list("b")) < 10 || len(w.django.list("c")) < 10 {
			time.Sleep(time.Second)
		}
		require.Less(t, time.Since(begin), 15*time.Second, "endpoints do not wait for each other")
		require.Zero(t, w.django.overlap)
		require.Equal(t, "3303/5700=9.0", w.django.list("b")[9], "in the order of the device")
	})
}

// Rule 2: a State 2 that follows 3 or 2 is no new download.
func TestRule2DownloadedOnce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		w.django.update("a", "2.0")
		w.settle()
		d.state(1)
		d.state(2)
		d.state(3)
		d.state(2) // it refuses to install
		d.state(3)
		d.state(2)
		d.restart("")
		require.Equal(t, 1, d.executes())
		require.Equal(t, 1, strings.Count(strings.Join(w.django.list("a"), " "), "5/3=2"))

		d.result(8)
		w.django.update("a", "3.0")
		w.settle()
		require.Len(t, d.written(), 2)
		d.state(1)
		d.state(2)
		require.Equal(t, 2, d.executes(), "of the next download")
	})
}

// A device that the bridge has never seen may hold any package: its State 2 leads to no Execute.
func TestForeignDownload(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.django.updates = []*update{{endpoint: "a", version: "2.0"}}
		d := w.register("a", "1.0")
		d.client.Stop(nil)
		time.Sleep(time.Minute)
		w.stop()
		require.NoError(t, os.Remove(w.config.State))
		d.update.Set(statePath, lwm2m.Integer(2))
		w.start()
		d.connect()
		require.Zero(t, d.executes())
	})
}

// Rule 3: a version is posted if it changed, or after an Execute; over restarts of the bridge too.
func TestRule3VersionWhenItMeansSomething(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		u := w.django.update("a", "2.0")
		w.settle()
		d.state(1)
		w.django.forget()
		d.restart("") // the link was lost during the download
		require.NotContains(t, w.django.list("a"), "3/3=1.0")
		require.Zero(t, u.result, "the update goes on")

		w.stop()
		w.start()
		d.restart("")
		require.NotContains(t, w.django.list("a"), "3/3=1.0")

		d.restart(" ") // says nothing
		require.Zero(t, u.result)

		d.about.Set(versionPath, lwm2m.String("1.0"))
		d.state(2)
		require.Equal(t, 1, d.executes())
		d.restart("") // before it installs
		require.Zero(t, u.result)
		w.stop()
		w.start()
		d.update.Set(statePath, lwm2m.Integer(3))
		w.settle()
		d.update.Set(statePath, lwm2m.Integer(0)) // it went back to the old version
		d.restart("")
		require.Contains(t, w.django.list("a"), "3/3=1.0")
		require.EqualValues(t, 8, u.result)
	})
}

// Rule 4: an update that was made while the device was away, or that Django did not send, begins
// at the next Register.
func TestRule4UpdateOfTheRegistrationAfterTheReads(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.client.Stop(nil)
		time.Sleep(2 * time.Hour) // its registration ends
		synctest.Wait()
		require.False(t, w.django.registered["a"])
		u := w.django.update("a", "2.0")
		w.settle()
		require.Equal(t, []string{"PUT 5/1 -> 400"}, w.django.requests())
		w.django.forget()
		d.connect()
		require.True(t, w.django.registered["a"])
		require.Equal(t, []string{"10240/0", "3/0=Example 3/16=U", "10240/2"}, w.django.list("a"))
		require.Equal(t, []string{"/binaries/2.0.bin"}, d.written())
		require.Zero(t, u.result)
	})
}

// Rule 5: an old Result is not posted again, and a new one after the version.
func TestRule5ResultAfterTheVersion(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		d.result(1) // of an earlier update
		u := w.django.update("a", "2.0")
		w.settle()
		d.restart("")
		require.Zero(t, u.result, "a stale Result is no success")

		d.update.Set(resultPath, lwm2m.Integer(0))
		d.state(1)
		d.state(2)
		d.state(3)
		w.django.forget()
		d.end()
		d.update.Set(statePath, lwm2m.Integer(0))
		d.update.Set(resultPath, lwm2m.Integer(1)) // it says success, and runs the old version
		d.connect()
		require.EqualValues(t, 8, u.result)
		require.Equal(t, []string{"10240/0", "3/0=Example 3/16=U", "3/3=1.0", "5/5=1", "5/3=0", "10240/2"}, w.django.list("a"))
	})
}

// A Result that says why the install failed comes before the version, which says only that it did.
func TestReasonOfAFailure(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		u := w.django.update("a", "2.0")
		w.settle()
		d.state(1)
		d.state(2)
		d.state(3)
		d.end()
		d.update.Set(statePath, lwm2m.Integer(0))
		d.update.Set(resultPath, lwm2m.Integer(6))
		d.connect()
		require.EqualValues(t, 6, u.result)
	})
}

// Rule 10: a restart of the bridge is no event, except what happened meanwhile.
func TestRule10Restart(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		gone := w.register("b", "1.0")
		w.django.update("a", "2.0")
		w.settle()
		d.state(1)
		w.django.forget()
		w.stop()
		d.state(2)
		gone.client.Stop(nil)
		time.Sleep(90 * time.Minute)
		late := w.register("c", "1.0")
		w.start()
		w.settle()
		require.Equal(t, []string{"5/3=2"}, w.django.list("a"))
		require.Equal(t, 1, d.executes())
		require.Equal(t, []string{"10240/1"}, w.django.list("b"))
		require.Equal(t, []string{"10240/0", "3/0=Example 3/16=U", "3/3=1.0", "10240/2"}, w.django.list("c"))
		_ = late
	})
}

// Django is away for an hour. What changes often is posted once; registrations keep their order.
func TestDjangoAwayForAnHour(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		d := w.register("a", "1.0")
		w.django.forget()
		w.django.down = true
		for n := range 360 {
			d.sensor.Set(temperature, lwm2m.Float(float64(n)))
			time.Sleep(10 * time.Second)
		}
		d.state(1)
		d.state(2)
		d.restart("2.0")
		w.stop() // the queue survives
		w.start()
		w.django.with(func() { w.django.down = false })
		time.Sleep(2 * time.Minute)
		posts := w.django.list("a")
		require.LessOrEqual(t, len(posts), 30)
		require.Contains(t, posts, "3303/5700=359.0")
		require.Equal(t, []string{"10240/0", "3/0=Example 3/16=U", "3/3=2.0", "10240/2"}, posts[len(posts)-4:])
		require.Equal(t, 1, strings.Count(w.log.String(), "Django is not reachable")-1, "one line for each outage and process")
	})
}
