package lwm2m_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestWriteResourceInstances writes a multiple resource by each kind of Write, in each format.
func TestWriteResourceInstances(t *testing.T) {
	inFormats(t, func(t *testing.T, w *world, s *switches, format lwm2m.ContentFormat) {
		ctx, resource := t.Context(), mustPath(t, "/20000/0/10")
		require.NoError(t, w.ask(lwm2m.OpWritePartial, "/20000/0/10", format,
			entryOf("/20000/0/10/1", lwm2m.String("A")), entryOf("/20000/0/10/2", lwm2m.String("B"))))
		require.Equal(t, "write /0/10/1=A /0/10/2=B /0/10/3=c", s.got())
		require.Equal(t, "/0/10/1=A /0/10/2=B /0/10/3=c", w.all("/20000/0/10"))

		require.NoError(t, w.ask(lwm2m.OpWritePartial, "/20000/0", format,
			entryOf("/20000/0/10/7", lwm2m.String("G")), entryOf("/20000/0/5851", lwm2m.Integer(7))))
		require.Equal(t, "write /0/10/1=A /0/10/2=B /0/10/3=c /0/10/7=G /0/5851=7", s.got())

		require.NoError(t, w.ask(lwm2m.OpWrite, "/20000/0/10", format, entryOf("/20000/0/10/4", lwm2m.String("d"))))
		require.Equal(t, "write /0/10/4=d", s.got())
		require.Equal(t, "/0/10/4=d", w.all("/20000/0/10"))

		require.NoError(t, w.server.WriteValue(ctx, endpointName, mustPath(t, "/20000/0/10/4"), lwm2m.String("D")))
		require.Equal(t, "D", w.read("/20000/0/10/4"))
		require.ErrorIs(t, w.server.WriteValue(ctx, endpointName, mustPath(t, "/20000/0/10/5"), lwm2m.String("e")), lwm2m.ErrNotFound)
		require.ErrorIs(t, w.server.WriteValue(ctx, endpointName, resource, lwm2m.String("e")), lwm2m.ErrBadRequest)
		require.ErrorIs(t, w.server.WriteValue(ctx, endpointName, mustPath(t, "/20000/0/5851/0"), lwm2m.Integer(1)), lwm2m.ErrNotFound)
		require.Equal(t, "/0/10/4=D /0/11/0=1 /0/5700=1.5 /0/5850=0 /0/5851=7", w.all("/20000/0"))
	})
}

// TestReplaceInstance: a Write of an instance removes the writable resources that it does not name.
func TestReplaceInstance(t *testing.T) {
	inFormats(t, func(t *testing.T, w *world, s *switches, format lwm2m.ContentFormat) {
		require.NoError(t, w.ask(lwm2m.OpWrite, "/20000/0", format,
			entryOf("/20000/0/5850", lwm2m.Boolean(true)), entryOf("/20000/0/11/5", lwm2m.Integer(5))))
		require.Equal(t, "write /0/11/5=5 /0/5850=1 /0/10= /0/5851=", s.got())
		require.Equal(t, "/0/11/5=5 /0/5700=1.5 /0/5850=1", w.all("/20000/0"))
	})
}

// TestReplaceKeepsWhatIsMandatory: a Write that would leave an instance without a mandatory
// resource changes nothing.
func TestReplaceKeepsWhatIsMandatory(t *testing.T) {
	inFormats(t, func(t *testing.T, w *world, s *switches, format lwm2m.ContentFormat) {
		before := w.all("/20000/0")
		for name, entries := range map[string][]lwm2m.Entry{
			"without 5850": newSwitch(0)[:1],
			"without 11":   newSwitch(0)[1:],
			"only 5851":    {entryOf("/20000/0/5851", lwm2m.Integer(1))},
		} {
			require.ErrorIs(t, w.ask(lwm2m.OpWrite, "/20000/0", format, entries...), lwm2m.ErrBadRequest, name)
		}
		none := lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpWrite, Path: mustPath(t, "/20000/0/11"), Format: &format,
		}
		if format == lwm2m.FormatTLV { // the other formats cannot name a resource without instances
			none.Entries = []lwm2m.Entry{{Path: none.Path}}
		}
		_, err := w.server.Do(t.Context(), none)
		require.ErrorIs(t, err, lwm2m.ErrBadRequest, "11 without instances")
		require.Empty(t, s.got())
		require.Equal(t, before, w.all("/20000/0"))
		require.NoError(t, w.ask(lwm2m.OpWrite, "/20000/0/5850", format, entryOf("/20000/0/5850", lwm2m.Boolean(true))))
		require.NoError(t, w.ask(lwm2m.OpWritePartial, "/20000/0", format, entryOf("/20000/0/5851", lwm2m.Integer(1))))
	})
}

// TestWriteRefused: a Write applies as a whole or not at all.
func TestWriteRefused(t *testing.T) {
	inFormats(t, func(t *testing.T, w *world, s *switches, format lwm2m.ContentFormat) {
		before := w.all("/20000/0")
		write := func(entries ...lwm2m.Entry) error {
			return w.ask(lwm2m.OpWritePartial, "/20000/0", format, entries...)
		}
		on := entryOf("/20000/0/5850", lwm2m.Boolean(true))
		require.ErrorIs(t, write(on, entryOf("/20000/0/5851", lwm2m.Integer(101))), lwm2m.ErrBadRequest)
		require.ErrorIs(t, write(on, entryOf("/20000/0/5700", lwm2m.Float(2))), lwm2m.ErrMethodNotAllowed)
		require.Empty(t, s.got())
		s.refuses(lwm2m.ErrUnavailable)
		require.ErrorIs(t, write(on), lwm2m.ErrUnavailable)
		require.Equal(t, before, w.all("/20000/0"))
	})
}

// TestResourceInstancesAreBounded: many small writes do not fill the device's memory.
func TestResourceInstancesAreBounded(t *testing.T) {
	withSwitches(t, "1.1", func(t *testing.T, w *world, s *switches) {
		var err error
		n := uint16(0)
		for ; err == nil && n < 400; n++ {
			err = w.server.WritePartial(t.Context(), endpointName, mustPath(t, "/20000/0/10"),
				[]lwm2m.Entry{{Path: lwm2m.NewPath(20000, 0, 10, n), Value: lwm2m.String("x")}})
		}
		require.ErrorIs(t, err, lwm2m.ErrBadRequest)
		require.EqualValues(t, 257, n)
	})
}

// TestObserveValues observes a resource, a resource instance, and a resource of an instance that is
// deleted.
func TestObserveValues(t *testing.T) {
	withSwitches(t, "1.1", func(t *testing.T, w *world, s *switches) {
		var mu sync.Mutex
		seen := map[string][]string{}
		observe := func(path string) *lwm2m.Observation {
			o, err := w.server.Observe(t.Context(), endpointName, mustPath(t, path), func(entries []lwm2m.Entry) {
				mu.Lock()
				defer mu.Unlock()
				seen[path] = append(seen[path], text(entries))
			})
			require.NoError(t, err)
			return o
		}
		settle := func() map[string][]string {
			mu.Lock()
			defer mu.Unlock()
			was := seen
			seen = map[string][]string{}
			return was
		}
		s.Set(mustPath(t, "/20000/1"), lwm2m.Value{})
		s.Set(mustPath(t, "/20000/1/5700"), lwm2m.Float(9))
		observe("/20000/0/10")
		observe("/20000/0/10/1")
		gone := observe("/20000/1/5700")
		wait(t)
		settle()

		s.Set(mustPath(t, "/20000/0/10/2"), lwm2m.String("b"))
		wait(t)
		require.Equal(t, map[string][]string{"/20000/0/10": {"/0/10/1=a /0/10/2=b /0/10/3=c"}}, settle())
		s.Set(mustPath(t, "/20000/0/10/1"), lwm2m.String("A"))
		wait(t)
		require.Equal(t, map[string][]string{
			"/20000/0/10": {"/0/10/1=A /0/10/2=b /0/10/3=c"}, "/20000/0/10/1": {"/0/10/1=A"},
		}, settle())
		s.Set(mustPath(t, "/20000/0/10/1"), lwm2m.String("A"))
		wait(t)
		require.Empty(t, settle(), "nothing has changed")

		require.NoError(t, w.server.Delete(t.Context(), endpointName, mustPath(t, "/20000/1")))
		wait(t)
		select {
		case <-gone.Done():
		default:
			t.Error("the observation of an instance that was deleted goes on")
		}
	})
}

// TestSetPanics: a path that cannot have a value is an error of the program.
func TestSetPanics(t *testing.T) {
	o := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: 20000})
	for _, e := range []lwm2m.Entry{
		entryOf("/20001/0/1", lwm2m.Integer(1)), entryOf("/20000", lwm2m.Integer(1)), entryOf("/20000/0", lwm2m.Integer(1)),
		entryOf("/20000/0/1", lwm2m.Value{}),
	} {
		require.Panics(t, func() { o.Set(e.Path, e.Value) }, e.Path)
	}
	require.Empty(t, o.Instances())
}

// TestSetSingleOrMultiple: a resource has one value or instances.
func TestSetSingleOrMultiple(t *testing.T) {
	o := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: 20000})
	single, first, second := mustPath(t, "/20000/0/1"), mustPath(t, "/20000/0/1/0"), mustPath(t, "/20000/0/1/1")
	o.Set(first, lwm2m.Integer(1))
	o.Set(second, lwm2m.Integer(2))
	o.Set(single, lwm2m.Integer(3))
	require.Equal(t, lwm2m.Value{}, o.Value(first))
	require.Equal(t, lwm2m.Integer(3), o.Value(single))
	o.Set(second, lwm2m.Integer(2))
	require.Equal(t, lwm2m.Value{}, o.Value(single))
	o.Remove(single)
	require.Equal(t, lwm2m.Value{}, o.Value(second))
	require.Equal(t, []uint16{0}, o.Instances())
	o.Remove(mustPath(t, "/20000/0"))
	require.Empty(t, o.Instances())
}

// TestSharedValues: an object of two clients reports changes to the servers of both, also writes by
// one of them.
func TestSharedValues(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: switchModels(t)}, func(t *testing.T, w *world) {
		s := newSwitches()
		seen := make(chan string, 10)
		for _, name := range []string{"one", "two"} {
			w.device(func(c *lwm2m.ClientConfig) {
				c.Endpoint, c.Models, c.Objects = name, switchModels(t), append(slices.Clone(c.Objects), s)
			})
			_, err := w.server.Observe(t.Context(), name, mustPath(t, "/20000/0/5851"), func(entries []lwm2m.Entry) {
				seen <- name + " " + entries[0].Value.String()
			})
			require.NoError(t, err)
		}
		wait(t)
		for len(seen) > 0 {
			<-seen
		}
		require.NoError(t, w.server.WriteValue(t.Context(), "one", mustPath(t, "/20000/0/5851"), lwm2m.Integer(8)))
		wait(t)
		require.ElementsMatch(t, []string{"one 8", "two 8"}, []string{<-seen, <-seen})
		require.Empty(t, seen)
	})
}

// wait waits for notifications.
func wait(t *testing.T) {
	t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
}
