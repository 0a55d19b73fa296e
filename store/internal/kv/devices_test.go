package kv

import (
	"fmt"
	"testing"

	"github.com/otago-iot/otago/store"
)

// TestSalvageIsBounded damages records in a fleet whose labels are serial numbers, of which salvage
// looks at some only: facts and other labels are found nevertheless, and what stays in the index
// misleads no query.
func TestSalvageIsBounded(t *testing.T) {
	b := &counting{Backend: &shaky{}}
	s, err := New(b, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = maxSalvageOfFact + 500
	var changes []store.Change
	for i := range n {
		ep, serial := fmt.Sprintf("ep%05d", i), fmt.Sprintf("%05d", i)
		changes = append(changes, store.PutFirmware{Endpoint: ep, Firmware: store.Firmware{Version: fmt.Sprint("1.", i%3)}},
			store.PutFacts{Endpoint: ep, Facts: store.Facts{Model: "S1"}},
			store.PutLabels{Endpoint: ep, Labels: map[string]string{"serial": serial, "zone": "a", "a": "b"}})
	}
	if _, err := s.Commit(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	for _, serial := range []string{"00007", fmt.Sprintf("%05d", n-1)} {
		ep := "ep" + serial
		if err := b.Update(func(w Writer) error { return w.Put(devices, []byte(ep), []byte("damaged")) }); err != nil {
			t.Fatal(err)
		}
		b.read = 0
		if _, err := s.Commit(t.Context(), store.PutRegistration{Endpoint: ep}); err != nil {
			t.Fatal(err)
		}
		d, err := s.Device(t.Context(), ep)
		if err != nil || d.Labels["zone"] != "a" || d.Labels["a"] != "b" {
			t.Errorf("%s has labels %v, %v", ep, d.Labels, err)
		}
		if found := d.Labels["serial"] == serial; found != (serial == "00007") {
			t.Errorf("%s: serial number found: %v", ep, found)
		}
		for found, err := range s.Devices(t.Context(), store.DeviceQuery{Labels: map[string]string{"serial": serial}}) {
			if err != nil || found.Labels["serial"] != serial {
				t.Errorf("query by %s: %+v, %v", serial, found, err)
			}
		}
	}
	c, err := s.DeviceCounts(t.Context())
	if err != nil || c.Devices != n || c.WithModel != n-2 || c.Models[0].Devices != n-2 || c.WithVersion != n-2 {
		t.Errorf("DeviceCounts = %+v, %v", c, err)
	}
}
