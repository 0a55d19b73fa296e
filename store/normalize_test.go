package store_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

func TestNormalizeCopies(t *testing.T) {
	u := store.Update{ID: "u", Endpoint: "ep", Image: "i", Tokens: []string{"a"}, Machine: fsm.NewUpdate(fsm.Plan{}, time.Now())}
	f := store.Firmware{Protocols: []int{1}, State: new(fsm.Idle), Result: new(fsm.ResultDefault), Delivery: new(fsm.PushOnly)}
	lines := []store.Event{{Update: "u", Name: "n"}}
	for _, c := range []store.Change{
		store.CreateUpdate{Update: u}, store.ReplaceUpdate{Update: u}, store.PutFirmware{Endpoint: "ep", Firmware: f},
		store.AppendEvents{Events: lines},
	} {
		got, err := store.Normalize(c)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := json.Marshal(got)
		u.Tokens[0], f.Protocols[0], lines[0].Name = "spoilt", 99, "spoilt"
		*f.State, *f.Result, *f.Delivery = 99, 99, 99
		if after, _ := json.Marshal(got); string(before) != string(after) {
			t.Errorf("%T shares a slice with its caller", c)
		}
		u.Tokens[0], f.Protocols[0], lines[0].Name = "a", 1, "n"
		*f.State, *f.Result, *f.Delivery = 0, 0, 0
	}
}

// FuzzNormalize: any text that Normalize accepts is fit for any database, survives JSON unchanged,
// and does not change when it is normalized again.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"", "ep", "a/b", "\x00", "\xff", "é", "\u2028", "\x7f", "<&>", strings.Repeat("x", 300)} {
		f.Add(s, int64(1700000000_123456789))
	}
	f.Fuzz(func(t *testing.T, s string, ns int64) {
		at := time.Unix(0, ns)
		u := store.Update{ID: s, Endpoint: s, Image: s, Key: s, Created: at, Machine: fsm.NewUpdate(fsm.Plan{}, time.Time{})}
		for _, c := range []store.Change{
			store.CreateUpdate{Update: u},
			store.AppendEvents{Events: []store.Event{{Update: "u", Endpoint: s, Name: "n", Detail: s, Time: at}}},
			store.CreateImage{Image: store.Image{ID: "i", Name: s, Version: s, Size: ns, SHA256: s, Compatible: store.Compatible{Model: s}}},
			store.DeleteImage{ID: s},
			store.PutRegistration{Endpoint: "ep", Registration: store.RegistrationRecord{ID: s, Links: s, Identity: s, LastSeen: at}},
			store.PutFirmware{Endpoint: s, Firmware: store.Firmware{Version: s, Component: s, State: new(fsm.State(ns)), Read: at}},
			store.PutHolds{Endpoint: "ep", Holds: s},
			store.PutFacts{Endpoint: s, Facts: store.Facts{Manufacturer: s, Model: s, Hardware: s, Zone: s, Offset: s, Read: at, Basis: s}},
			store.PutLabels{Endpoint: "ep", Labels: map[string]string{"a": s}},
			store.PutLabels{Endpoint: "ep", Labels: map[string]string{s: "a"}},
			store.RemoveDamaged{Kind: store.Kind(s), Key: s},
			store.RemoveDamaged{Kind: store.KindEvent, Key: s},
		} {
			once, err := store.Normalize(c)
			if err != nil {
				if !errors.Is(err, store.ErrInvalid) {
					t.Fatalf("%T: %v", c, err)
				}
				continue
			}
			data, err := json.Marshal(once)
			if err != nil || !utf8.Valid(data) || strings.Contains(string(data), `\u0000`) {
				t.Fatalf("%T: %q, %v", c, data, err)
			}
			back := reflect.New(reflect.TypeOf(once))
			if err := json.Unmarshal(data, back.Interface()); err != nil {
				t.Fatalf("%T: %v", c, err)
			}
			if !reflect.DeepEqual(back.Elem().Interface(), once) {
				t.Fatalf("%T came back as\n%+v, was\n%+v", c, back.Elem().Interface(), once)
			}
			if twice, err := store.Normalize(once); err != nil || !reflect.DeepEqual(twice, once) {
				t.Fatalf("%T once more: %+v, %v", c, twice, err)
			}
		}
	})
}
