package lwm2m_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestNotificationAttributes changes a value step by step, a second apart, and checks the
// notifications.
func TestNotificationAttributes(t *testing.T) {
	for _, test := range []struct {
		name       string
		attributes []string
		changes    []float64
		wait       time.Duration // after the changes
		want       []string
	}{
		{"none", nil, []float64{1, 1, 2}, 0, []string{"1", "2"}},
		{"pmin merges", []string{"pmin=10"}, []float64{1, 2, 3}, 20 * time.Second, []string{"3"}},
		{"pmax repeats", []string{"pmax=10"}, []float64{1}, 20 * time.Second, []string{"1", "1", "1"}},
		{"pmax below pmin is refused", []string{"pmin=10", "pmax=5"}, nil, 0, nil},
		{"gt both ways", []string{"gt=5"}, []float64{4, 6, 7, 5, 4, 9}, 0, []string{"6", "5", "9"}},
		{"lt both ways", []string{"lt=-5"}, []float64{-4, -6, -7, -5, -9}, 0, []string{"-6", "-5", "-9"}},
		{"st", []string{"st=2"}, []float64{1, 2, 3, 4, 1}, 0, []string{"2", "4", "1"}},
		{"gt or st", []string{"gt=5", "st=10"}, []float64{4, 6, 9, 17, 18}, 0, []string{"6", "17"}},
		{"pmax dominates gt", []string{"gt=100", "pmax=10"}, []float64{1, 2}, 10 * time.Second, []string{"2"}},
		{"pmin dominates gt", []string{"gt=5", "pmin=10"}, []float64{6, 4}, 20 * time.Second, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
				attributes, err := lwm2m.ParseAttributes(test.attributes...)
				require.NoError(t, err)
				err = w.server.WriteAttributes(t.Context(), endpointName, sensorValue, attributes)
				if test.changes == nil {
					require.ErrorIs(t, err, lwm2m.ErrBadRequest)
					return
				}
				if test.attributes != nil {
					require.NoError(t, err)
				}
				var got values
				_, err = w.server.Observe(t.Context(), endpointName, sensorValue, got.add)
				require.NoError(t, err)
				got.take()
				for _, v := range test.changes {
					change(v)
				}
				time.Sleep(test.wait)
				require.Equal(t, test.want, got.texts())
			})
		})
	}
}

// TestAttributesAreInherited attaches pmin to levels above the resource: the nearest counts.
func TestAttributesAreInherited(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		set := func(path lwm2m.Path, queries ...string) {
			a, err := lwm2m.ParseAttributes(queries...)
			require.NoError(t, err)
			require.NoError(t, w.server.WriteAttributes(t.Context(), endpointName, path, a))
		}
		require.NoError(t, w.server.WriteValue(t.Context(), endpointName, lwm2m.NewPath(1, 0, 2), lwm2m.Integer(60)))
		var got values
		_, err := w.server.Observe(t.Context(), endpointName, sensorValue, got.add)
		require.NoError(t, err)
		next := func(v float64) time.Duration {
			got.take()
			change(v)
			time.Sleep(2 * time.Minute)
			_, at := got.take()
			require.Len(t, at, 1)
			return at[0]
		}
		time.Sleep(time.Hour)
		next(1)                                         // begins a period
		change(2)                                       // notified at once: the period has passed
		got.take()                                      //
		change(3)                                       // waits
		time.Sleep(2 * time.Minute)                     //
		_, at := got.take()                             //
		require.Equal(t, []time.Duration{59e9}, at[:1]) // default pmin of the server object
		set(lwm2m.NewPath(3303), "pmin=30")
		change(4)
		change(5)
		got.take()
		time.Sleep(2 * time.Minute)
		_, at = got.take()
		require.Equal(t, []time.Duration{28e9}, at)
		set(lwm2m.NewPath(3303, 0), "pmin=0")
		change(6)
		change(7)
		require.Equal(t, []string{"6", "7"}, got.texts())

		links, err := w.server.Discover(t.Context(), endpointName, lwm2m.NewPath(3303))
		require.NoError(t, err)
		require.Equal(t, lwm2m.NewPath(3303), links[0].Path)
		pmin, ok := links[0].Attributes.Get(lwm2m.AttributePMin)
		require.True(t, ok)
		require.Equal(t, 30.0, pmin)
	})
}

func TestEdge(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		s := &sensor{}
		client := w.device(func(c *lwm2m.ClientConfig) {
			c.Models, c.Version = sensorModels(t), "1.2"
			c.Objects = append(c.Objects, s)
		})
		var a lwm2m.Attributes
		require.NoError(t, a.Set(lwm2m.AttributeEdge, 1))
		on := lwm2m.NewPath(3303, 0, 5850)
		require.NoError(t, w.server.WriteAttributes(t.Context(), endpointName, on, a))
		var got values
		_, err := w.server.Observe(t.Context(), endpointName, on, got.add)
		require.NoError(t, err)
		got.take()
		for _, b := range []bool{true, false, true, false} {
			s.setOn(b)
			client.Notify(on)
			time.Sleep(time.Second)
		}
		require.Equal(t, []string{"1", "1"}, got.texts())
	})
}
