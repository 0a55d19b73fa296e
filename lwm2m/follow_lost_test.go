package lwm2m_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
