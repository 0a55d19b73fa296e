package lwm2m_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// followLog collects what a Follow reports.
type followLog struct {
	mu  sync.Mutex
	all []lwm2m.Values
}

func (l *followLog) add(v lwm2m.Values) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, v)
}

// how says how values came.
func how(v lwm2m.Values) string {
	switch {
	case v.Send:
		return "send"
	case v.First:
		return "first"
	default:
		return "notify"
	}
}

// texts returns the sources, paths and values since the last call.
func (l *followLog) texts() (all []string) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.all {
		for _, e := range v.Entries {
			all = append(all, how(v)+" "+e.Path.String()+" "+e.Value.String())
		}
	}
	l.all = nil
	return all
}

func TestFollow(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		var got followLog
		stop := w.server.Follow([]lwm2m.Path{sensorValue, lwm2m.NewPath(5, 0, 3)}, nil, got.add)
		time.Sleep(time.Second)
		require.Equal(t, []string{"first /3303/0/5700 0"}, got.texts())
		change(1)
		require.Equal(t, []string{"notify /3303/0/5700 1"}, got.texts())
		stop()
		change(2)
		require.Empty(t, got.texts())
	})
}
