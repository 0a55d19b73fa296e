package lwm2m_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// TestFollowSixteenPaths: fn blocks, and an Update makes a question for selects wait too. The last
// value of each of 16 paths arrives.
func TestFollowSixteenPaths(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>")
		var all []string
		want := map[string]string{}
		for i := range 16 {
			path := fmt.Sprintf("/3/0/%d", 100+i)
			all = append(all, path)
			d.values[path], want[path] = "old", "new"
		}
		var got followLog
		release := make(chan struct{})
		w.server.Follow(paths(t, all...), func(lwm2m.Registration) bool { return true }, func(v lwm2m.Values) {
			<-release
			got.add(v)
		})
		time.Sleep(time.Minute)
		d.update("")
		for _, path := range all {
			d.set(path, "new")
		}
		close(release)
		last := map[string]string{}
		for _, v := range got.values() {
			last[v.Entries[0].Path.String()] = v.Entries[0].Value.String()
		}
		require.Equal(t, want, last)
	})
}

// TestFollowFlappingDevice: a device answers each Observe, and ends the observation at once. The
// pauses grow all the same, and its Updates shorten only the first of them.
func TestFollowFlappingDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.followable("</3/0>", "lt=86400")
		d.script(func(r *coap.IncomingRequest) *coap.Response {
			if v, ok := r.Observe(); !ok || v != 0 {
				return nil
			}
			o := r.Accept()
			time.AfterFunc(100*time.Millisecond, func() { o.Notify(&coap.Response{Code: coap.ServiceUnavailable}, false) })
			return content(0, "80")
		})
		var got followLog
		w.server.Follow(paths(t, "/3/0/9"), nil, got.add)
		time.Sleep(3 * time.Hour)
		require.Less(t, len(d.requests()), 20)
		for range 60 {
			d.update("")
		}
		require.LessOrEqual(t, len(d.requests()), 1)

		// A notification ends the series of failures.
		d.script(nil)
		d.values["/3/0/9"] = "80"
		time.Sleep(time.Hour)
		d.set("/3/0/9", "81")
		d.mu.Lock()
		o := d.observers["/3/0/9"][0]
		d.mu.Unlock()
		d.requests()
		o.Notify(&coap.Response{Code: coap.ServiceUnavailable}, false)
		time.Sleep(31 * time.Second)
		require.Equal(t, []string{"observe /3/0/9"}, d.requests())
	})
}
