package lwm2m_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// miscounting is an object 3303 whose sinks return wrong counts.
type miscounting struct {
	sensor
	write            func(p []byte) int
	commits, aborted int
	received         int
}

func (m *miscounting) OpenWrite(context.Context, lwm2m.Path, int64) (lwm2m.Sink, error) {
	return m.sink(), nil
}

func (m *miscounting) sink() lwm2m.Sink { return miscountingSink{m} }

type miscountingSink struct{ m *miscounting }

func (s miscountingSink) Write(p []byte) (int, error)  { return s.m.write(p), nil }
func (s miscountingSink) Commit(context.Context) error { s.m.commits++; return nil }
func (s miscountingSink) Abort(error)                  { s.m.aborted++ }

// TestSinkMiscounts: a value is not complete if a sink takes fewer bytes than it got, or says that
// it took more.
func TestSinkMiscounts(t *testing.T) {
	for name, write := range map[string]func(p []byte) int{
		"less":            func(p []byte) int { return len(p) - 1 },
		"nothing":         func([]byte) int { return 0 },
		"more":            func(p []byte) int { return len(p) + 1 },
		"fewer than none": func([]byte) int { return -1 },
	} {
		for _, size := range []int{10, 5000} {
			for way, format := range map[string]lwm2m.ContentFormat{"as it is": lwm2m.FormatOpaque, "in TLV": lwm2m.FormatTLV} {
				t.Run(name+" "+way, func(t *testing.T) {
					inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
						m := &miscounting{write: write}
						w.device(func(c *lwm2m.ClientConfig) { c.Objects, c.Models = append(c.Objects, m), sensorModels(t) })
						path := lwm2m.NewPath(3303, 0, 6000)
						var err error
						if format == lwm2m.FormatOpaque {
							err = w.server.WriteStream(t.Context(), endpointName, path, bytes.NewReader(make([]byte, size)), int64(size))
						} else {
							err = w.server.WriteValue(t.Context(), endpointName, path, lwm2m.Opaque(make([]byte, size)))
						}
						require.Error(t, err)
						require.Zero(t, m.commits)
						require.Equal(t, 1, m.aborted)
					})
				})
			}
		}
	}
}

// vanishing is a miscounting object whose instance is gone when the last block of a value arrives.
type vanishing struct{ *miscounting }

func (v vanishing) OpenWrite(context.Context, lwm2m.Path, int64) (lwm2m.Sink, error) {
	return v.sink(), nil
}

func (v vanishing) Instances() []uint16 {
	if v.received >= 4096 {
		return nil
	}
	return v.miscounting.Instances()
}

// TestSinkOfRefusedValue refuses a value whose blocks have all arrived: the sink is aborted.
func TestSinkOfRefusedValue(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		v := vanishing{&miscounting{}}
		v.write = func(p []byte) int { v.received += len(p); return len(p) }
		w.device(func(c *lwm2m.ClientConfig) { c.Objects, c.Models = append(c.Objects, v), sensorModels(t) })
		err := w.server.WriteStream(t.Context(), endpointName, lwm2m.NewPath(3303, 0, 6000), bytes.NewReader(make([]byte, 5000)), 5000)
		require.ErrorIs(t, err, lwm2m.ErrNotFound)
		require.Zero(t, v.commits)
		require.Equal(t, 1, v.aborted)
	})
}
