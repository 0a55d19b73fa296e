package lwm2m_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// switchModel is an object with resources of each kind: 5850 mandatory and writable, 5851 writable,
// 5700 read-only, 10 multiple and writable, 11 multiple, writable and mandatory, 20 executable.
var switchModel = &lwm2m.ObjectModel{
	ID: 20000, Version: lwm2m.Version{Major: 1}, Name: "Switch", Multiple: true,
	Resources: []lwm2m.ResourceModel{
		{ID: 10, Operations: lwm2m.Readable | lwm2m.Writable, Type: lwm2m.TypeString, Multiple: true},
		{ID: 11, Operations: lwm2m.Readable | lwm2m.Writable, Type: lwm2m.TypeInteger, Multiple: true, Mandatory: true},
		{ID: 20, Operations: lwm2m.Executable},
		{ID: 5700, Operations: lwm2m.Readable, Type: lwm2m.TypeFloat},
		{ID: 5850, Operations: lwm2m.Readable | lwm2m.Writable, Type: lwm2m.TypeBoolean, Mandatory: true},
		{ID: 5851, Operations: lwm2m.Readable | lwm2m.Writable, Type: lwm2m.TypeInteger},
	},
}

func switchModels(t *testing.T) *lwm2m.Models {
	t.Helper()
	m := &lwm2m.Models{}
	require.NoError(t, m.Add(switchModel))
	return m
}

// switches is an object of that model that records the calls of its functions.
type switches struct {
	*lwm2m.ValueObject
	mu     sync.Mutex
	calls  []string
	refuse error // what the functions return
}

func newSwitches() *switches {
	s := &switches{}
	s.ValueObject = lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
		ID: 20000,
		Values: []lwm2m.Entry{
			entryOf("/20000/0/5850", lwm2m.Boolean(false)), entryOf("/20000/0/5851", lwm2m.Integer(50)),
			entryOf("/20000/0/5700", lwm2m.Float(1.5)), entryOf("/20000/0/11/0", lwm2m.Integer(1)),
			entryOf("/20000/0/10/1", lwm2m.String("a")), entryOf("/20000/0/10/3", lwm2m.String("c")),
		},
		Writable: map[uint16]func(lwm2m.Value) error{
			10: nil, 11: nil, 5850: nil,
			5851: func(v lwm2m.Value) error {
				if n, _ := v.Int64(); n > 100 {
					return errors.New("above 100")
				}
				return nil
			},
		},
		OnWrite: func(_ context.Context, values []lwm2m.Entry) error { return s.called("write " + text(values)) },
		OnExecute: map[uint16]func(context.Context, uint16, string) error{
			20: func(_ context.Context, _ uint16, args string) error { return s.called("execute " + args) },
		},
		OnCreate: func(_ context.Context, instance uint16, values []lwm2m.Entry) error {
			s.Set(lwm2m.NewPath(20000, instance, 5700), lwm2m.Float(0))
			return s.called("create " + text(values))
		},
		OnDelete: func(_ context.Context, instance uint16) error {
			if instance == 0 {
				return lwm2m.ErrMethodNotAllowed
			}
			return s.called("delete")
		},
		MaxInstances: 3,
	})
	return s
}

func (s *switches) called(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what)
	return s.refuse
}

// got returns the calls since the last one.
func (s *switches) got() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := strings.Join(s.calls, "; ")
	s.calls = nil
	return calls
}

func (s *switches) refuses(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func entryOf(path string, v lwm2m.Value) lwm2m.Entry {
	p, err := lwm2m.ParsePath(path)
	if err != nil {
		panic(err)
	}
	return lwm2m.Entry{Path: p, Value: v}
}

// text formats entries as "/0/10/1=a /0/5851=", without the object.
func text(entries []lwm2m.Entry) string {
	var s []string
	for _, e := range entries {
		s = append(s, strings.TrimPrefix(e.Path.String(), "/20000")+"="+e.Value.String())
	}
	return strings.Join(s, " ")
}

// withSwitches runs f with a device that offers switches.
func withSwitches(t *testing.T, version string, f func(t *testing.T, w *world, s *switches)) {
	inWorld(t, lwm2m.ServerConfig{Models: switchModels(t)}, func(t *testing.T, w *world) {
		s := newSwitches()
		w.device(func(c *lwm2m.ClientConfig) {
			c.Version, c.Models, c.Objects = version, switchModels(t), append(c.Objects, s)
		})
		f(t, w, s)
	})
}

// ask makes a request with entries in a format.
func (w *world) ask(op lwm2m.Operation, path string, format lwm2m.ContentFormat, entries ...lwm2m.Entry) error {
	w.t.Helper()
	_, err := w.server.Do(w.t.Context(), lwm2m.Request{
		Endpoint: endpointName, Operation: op, Path: mustPath(w.t, path), Entries: entries, Format: &format,
	})
	return err
}

// all reads path and returns it as text.
func (w *world) all(path string) string {
	w.t.Helper()
	entries, err := w.server.Read(w.t.Context(), endpointName, mustPath(w.t, path))
	require.NoError(w.t, err)
	return text(entries)
}

// formatsOf are the formats that carry several values in a version.
func formatsOf(version string) []lwm2m.ContentFormat {
	return map[string][]lwm2m.ContentFormat{
		"1.0": {lwm2m.FormatTLV, lwm2m.FormatJSON},
		"1.1": {lwm2m.FormatTLV, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR},
		"1.2": {lwm2m.FormatTLV, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR, lwm2m.FormatLwM2MCBOR},
	}[version]
}

// inFormats runs f with a new device for each version and format.
func inFormats(t *testing.T, f func(t *testing.T, w *world, s *switches, format lwm2m.ContentFormat)) {
	for _, version := range []string{"1.0", "1.1", "1.2"} {
		for _, format := range formatsOf(version) {
			t.Run(version+" "+format.String(), func(t *testing.T) {
				withSwitches(t, version, func(t *testing.T, w *world, s *switches) {
					f(t, w, s, format)
				})
			})
		}
	}
}
