package lwm2m_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// newSwitch returns the mandatory values of a new instance, and more.
func newSwitch(instance uint16, more ...lwm2m.Entry) []lwm2m.Entry {
	return append([]lwm2m.Entry{
		{Path: lwm2m.NewPath(20000, instance, 11, 0), Value: lwm2m.Integer(1)},
		{Path: lwm2m.NewPath(20000, instance, 5850), Value: lwm2m.Boolean(true)},
	}, more...)
}

func (w *world) create(format lwm2m.ContentFormat, entries ...lwm2m.Entry) (lwm2m.Path, error) {
	w.t.Helper()
	a, err := w.server.Do(w.t.Context(), lwm2m.Request{
		Endpoint: endpointName, Operation: lwm2m.OpCreate, Path: lwm2m.NewPath(20000), Entries: entries, Format: &format,
	})
	return a.Path, err
}

// lists waits for an Update, and reports whether the registration lists an instance.
func (w *world) lists(path string) bool {
	w.t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	r, ok := w.server.Registration(endpointName)
	require.True(w.t, ok)
	return r.Objects().Has(mustPath(w.t, path))
}

// TestCreateAndDelete creates an instance in each format, and deletes it.
func TestCreateAndDelete(t *testing.T) {
	inFormats(t, func(t *testing.T, w *world, s *switches, format lwm2m.ContentFormat) {
		require.False(t, w.lists("/20000/7"))
		w.events.kinds()
		path, err := w.create(format, newSwitch(7, entryOf("/20000/7/10/4", lwm2m.String("d")))...)
		require.NoError(t, err)
		require.Equal(t, "/20000/7", path.String())
		require.Equal(t, "create /7/10/4=d /7/11/0=1 /7/5850=1", s.got())
		require.Equal(t, "/7/10/4=d /7/11/0=1 /7/5700=0 /7/5850=1", w.all("/20000/7"), "5700 is the device's")
		require.True(t, w.lists("/20000/7"))
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventUpdated}, w.events.kinds())

		_, err = w.create(format, newSwitch(7)...)
		require.ErrorIs(t, err, lwm2m.ErrBadRequest, "it exists")
		require.NoError(t, w.server.Delete(t.Context(), endpointName, mustPath(t, "/20000/7")))
		require.Equal(t, "delete", s.got())
		require.False(t, w.lists("/20000/7"))
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventUpdated}, w.events.kinds())
		require.ErrorIs(t, w.server.Delete(t.Context(), endpointName, mustPath(t, "/20000/7")), lwm2m.ErrNotFound)
	})
}

// TestCreateRefused: a refused Create leaves nothing behind.
func TestCreateRefused(t *testing.T) {
	inFormats(t, func(t *testing.T, w *world, s *switches, format lwm2m.ContentFormat) {
		for name, tc := range map[string]struct {
			entries []lwm2m.Entry
			want    error
		}{
			"without 5850":       {newSwitch(7)[:1], lwm2m.ErrBadRequest},
			"without 11":         {newSwitch(7)[1:], lwm2m.ErrBadRequest},
			"a value too high":   {newSwitch(7, entryOf("/20000/7/5851", lwm2m.Integer(101))), lwm2m.ErrBadRequest},
			"a read-only one":    {newSwitch(7, entryOf("/20000/7/5700", lwm2m.Float(1))), lwm2m.ErrMethodNotAllowed},
			"an unknown one":     {newSwitch(7, entryOf("/20000/7/9", lwm2m.Integer(1))), lwm2m.ErrNotFound},
			"of two instances":   {append(newSwitch(7), newSwitch(8)...), lwm2m.ErrBadRequest},
			"not a multiple one": {newSwitch(7, entryOf("/20000/7/5851/0", lwm2m.Integer(1))), lwm2m.ErrNotFound},
		} {
			_, err := w.create(format, tc.entries...)
			require.ErrorIs(t, err, tc.want, name)
		}
		require.Empty(t, s.got())
		s.refuses(lwm2m.ErrForbidden)
		_, err := w.create(format, newSwitch(7)...)
		require.ErrorIs(t, err, lwm2m.ErrForbidden)
		require.Equal(t, []uint16{0}, s.Instances(), "also of what OnCreate had set")
		s.refuses(nil)
		for i := range uint16(2) {
			_, err = w.create(format, newSwitch(i+1)...)
			require.NoError(t, err)
		}
		_, err = w.create(format, newSwitch(3)...)
		require.ErrorIs(t, err, lwm2m.ErrBadRequest, "three are all that may be")
	})
}

// TestDeleteRefused tries to delete what must stay.
func TestDeleteRefused(t *testing.T) {
	for _, version := range []string{"1.0", "1.1", "1.2"} {
		withSwitches(t, version, func(t *testing.T, w *world, s *switches) {
			remove := func(path string) error { return w.server.Delete(t.Context(), endpointName, mustPath(t, path)) }
			require.ErrorIs(t, remove("/20000/0"), lwm2m.ErrMethodNotAllowed, "OnDelete refuses it")
			require.ErrorIs(t, remove("/20000/0/5850"), lwm2m.ErrMethodNotAllowed)
			require.ErrorIs(t, remove("/3/0"), lwm2m.ErrMethodNotAllowed)
			require.ErrorIs(t, remove("/1/0"), lwm2m.ErrMethodNotAllowed)
			require.ErrorIs(t, remove("/20000/5"), lwm2m.ErrNotFound)
			require.ErrorIs(t, remove("/3/0/11/0"), lwm2m.ErrMethodNotAllowed, "servers do not write 3/0/11")
			if version == "1.0" {
				require.ErrorIs(t, remove("/20000/0/10/1"), lwm2m.ErrMethodNotAllowed)
				return
			}
			require.NoError(t, remove("/20000/0/10/1"))
			require.Equal(t, "write /0/10/3=c", s.got())
			require.ErrorIs(t, remove("/20000/0/10/1"), lwm2m.ErrNotFound)
			require.NoError(t, remove("/20000/0/10/3"))
			require.Equal(t, "write /0/10=", s.got())
			require.ErrorIs(t, remove("/20000/0/11/0"), lwm2m.ErrMethodNotAllowed, "11 is mandatory")
			require.Equal(t, "/0/11/0=1 /0/5700=1.5 /0/5850=0 /0/5851=50", w.all("/20000/0"))
		})
	}
}

// TestCreateLeavesTheChoice: the client chooses the instance if TLV or an empty payload names none.
func TestCreateLeavesTheChoice(t *testing.T) {
	o := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
		ID: 20001, Values: []lwm2m.Entry{entryOf("/20001/0", lwm2m.Value{}), entryOf("/20001/2", lwm2m.Value{})},
		Writable: map[uint16]func(lwm2m.Value) error{1: nil},
		OnCreate: func(context.Context, uint16, []lwm2m.Entry) error { return nil },
	})
	withPicky(t, func(*coap.IncomingRequest) *coap.Response { return nil }, func(c *lwm2m.ClientConfig) {
		c.Objects = append(c.Objects, o)
	}, func(t *testing.T, p *picky, c *lwm2m.Client) {
		create := func(format coap.Format, payload string) *coap.Response {
			resp, err := p.endpoint.Do(t.Context(), p.device(), &coap.Request{
				Code: coap.POST, Path: []string{"20001"}, ContentFormat: format, Payload: []byte(payload),
			})
			require.NoError(t, err)
			return resp
		}
		location := func(resp *coap.Response) (path string) {
			require.Equal(t, coap.Created, resp.Code)
			for _, option := range resp.Options {
				if option.ID == coap.LocationPath {
					path += "/" + string(option.Value)
				}
			}
			return path
		}
		require.Equal(t, "/20001/1", location(create(coap.FormatOf(11542), "\xc1\x01a")))
		require.Equal(t, lwm2m.Opaque([]byte("a")), o.Value(mustPath(t, "/20001/1/1")))
		require.Equal(t, "/20001/3", location(create(coap.Format{}, "")))
		require.Equal(t, "/20001/4", location(create(coap.FormatOf(112), "\x80")))
		require.Empty(t, location(create(coap.FormatOf(11542), "\x00\x09")), "the server knows which it is")
		require.Equal(t, []uint16{0, 1, 2, 3, 4, 9}, o.Instances())
		require.Equal(t, coap.UnsupportedMediaType, create(coap.Format{}, "x").Code)
		require.Equal(t, coap.UnsupportedMediaType, create(coap.FormatOf(0), "x").Code)
	})
}

// TestCreateElsewhere: the client refuses a Create for an object that is no InstanceCreator, or has
// no OnCreate.
func TestCreateElsewhere(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Objects = append(c.Objects, emptyObject(10000)) })
		for _, object := range []uint16{1, 3, 10000} {
			_, err := w.server.Create(t.Context(), endpointName, lwm2m.NewPath(object), []lwm2m.Entry{{Path: lwm2m.NewPath(object, 1)}})
			require.ErrorIs(t, err, lwm2m.ErrMethodNotAllowed, object)
		}
		_, err := w.server.Create(t.Context(), endpointName, lwm2m.NewPath(4711), []lwm2m.Entry{{Path: lwm2m.NewPath(4711, 1)}})
		require.ErrorIs(t, err, lwm2m.ErrNotFound)
	})
}

// TestTimezone writes 3/0/14 and 3/0/15 from a server.
func TestTimezone(t *testing.T) {
	var saved []string
	var refuse error
	device := lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{
		Timezone: "UTC",
		SaveTimezone: func(_ context.Context, utcOffset, timezone string) error {
			saved = append(saved, utcOffset+" "+timezone)
			return refuse
		},
	})
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Objects = []lwm2m.Object{device} })
		offset, zone := lwm2m.NewPath(3, 0, 14), lwm2m.NewPath(3, 0, 15)
		write := func(path lwm2m.Path, text string) error {
			return w.server.WriteValue(t.Context(), endpointName, path, lwm2m.String(text))
		}
		_, err := w.server.Read(t.Context(), endpointName, offset)
		require.ErrorIs(t, err, lwm2m.ErrNotFound)
		require.Equal(t, "UTC", w.read("/3/0/15"))
		for _, good := range []string{"+02:00", "-12:00", "+14:00", "+0530", "-03", "Z", "+00:00"} {
			require.NoError(t, write(offset, good), good)
			require.Equal(t, good, w.read("/3/0/14"))
		}
		for _, bad := range []string{
			"", "2", "02:00", "+2:00", "+02:0", "+02:60", "+14:01", "-12:01", "-00:00", "+02:00 ", "+02:00:00", "+02h00", "UTC+2", "+aa:00", "z",
		} {
			require.ErrorIs(t, write(offset, bad), lwm2m.ErrBadRequest, bad)
		}
		for _, good := range []string{"Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "America/Port-au-Prince", "EST5EDT"} {
			require.NoError(t, write(zone, good), good)
			require.Equal(t, good, w.read("/3/0/15"))
		}
		for _, bad := range []string{"", "/", "Europe/", "../../etc/passwd", "-x", "Europe/Zürich", "a b", "Europe//Berlin"} {
			require.ErrorIs(t, write(zone, bad), lwm2m.ErrBadRequest, bad)
		}
		saved = nil
		both := []lwm2m.Entry{{Path: offset, Value: lwm2m.String("+01:00")}, {Path: zone, Value: lwm2m.String("Europe/Rome")}}
		require.NoError(t, w.server.WritePartial(t.Context(), endpointName, lwm2m.NewPath(3, 0), both))
		require.NoError(t, write(offset, "+02:00"))
		require.NoError(t, w.server.Write(t.Context(), endpointName, lwm2m.NewPath(3, 0), both[1:]))
		require.Equal(t, []string{"+01:00 Europe/Rome", "+02:00 Europe/Rome", " Europe/Rome"}, saved, "one call for each write")
		refuse = errors.New("the flash is full")
		require.ErrorIs(t, write(zone, "Europe/Paris"), lwm2m.ErrInternal)
		require.Equal(t, "Europe/Rome", w.read("/3/0/15"))
		require.ErrorIs(t, write(lwm2m.NewPath(3, 0, 0), "x"), lwm2m.ErrMethodNotAllowed)
	})
}

// TestPowerSources gives a device two sources of power, and observes them.
func TestPowerSources(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		device := lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{})
		for path, n := range map[string]int64{
			"/3/0/6/0": 1, "/3/0/6/5": 5, "/3/0/7/0": 3800, "/3/0/7/5": 5000, "/3/0/8/0": 125, "/3/0/8/5": 900, "/3/0/11/0": 1, "/3/0/11/1": 2,
		} {
			device.Set(mustPath(t, path), lwm2m.Integer(n))
		}
		w.device(func(c *lwm2m.ClientConfig) { c.Objects = []lwm2m.Object{device} })
		require.Equal(t, "/3/0/7/0=3800 /3/0/7/5=5000", w.all("/3/0/7"))
		require.Equal(t, "/3/0/11/0=1 /3/0/11/1=2", w.all("/3/0/11"))
		require.Equal(t, "5000", w.read("/3/0/7/5"))
		found, err := w.server.Discover(t.Context(), endpointName, lwm2m.NewPath(3, 0))
		require.NoError(t, err)
		dims := map[uint16]int{}
		for _, d := range found {
			if d.Path.IsResource() && d.Dimension >= 0 {
				dims[d.Path.Resource()] = d.Dimension
			}
		}
		require.Equal(t, map[uint16]int{6: 2, 7: 2, 8: 2, 11: 2}, dims)
		seen := make(chan string, 3)
		_, err = w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(3, 0, 7, 5), func(e []lwm2m.Entry) { seen <- text(e) })
		require.NoError(t, err)
		require.Equal(t, "/3/0/7/5=5000", <-seen)
		device.Set(lwm2m.NewPath(3, 0, 7, 0), lwm2m.Integer(3700))
		device.Set(lwm2m.NewPath(3, 0, 7, 5), lwm2m.Integer(4900))
		require.Equal(t, "/3/0/7/5=4900", <-seen)
	})
}
