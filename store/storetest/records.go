package storetest

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

var epoch = time.Date(2025, 3, 1, 12, 0, 0, 123456000, time.UTC)

func newImage(id, version string) store.Image {
	return store.Image{ID: id, Name: "sensor", Version: version, Size: 4096, SHA256: "d1" + id, Created: epoch}
}

func newUpdate(id, endpoint, image string) store.Update {
	return store.Update{
		ID: id, Endpoint: endpoint, Image: image, Tokens: []string{"aa", "bb"}, Created: epoch, Changed: epoch,
		Machine: fsm.NewUpdate(fsm.Plan{Profile: fsm.Profile{Protocols: []fsm.Protocol{fsm.ProtocolHTTP}}}, epoch),
	}
}

func ended(u store.Update) store.Update {
	u.Machine.Phase, u.Machine.Outcome, u.Machine.Result = fsm.PhaseEnded, fsm.OutcomeSucceeded, fsm.ResultSuccess
	return u
}

func newEvent(update, name string) store.Event {
	return store.Event{Update: update, Endpoint: "ep", Time: epoch, Name: name, Phase: fsm.PhaseWaiting}
}

func newRegistration(id string) store.RegistrationRecord {
	return store.RegistrationRecord{
		ID: id, Address: "192.0.2.1:5683", Transport: "coap", Version: "1.1", Lifetime: 300 * time.Second,
		Attributes: "site=north&tenant=a", Links: "</1/0>,</3/0>,</5/0>", Registered: epoch, Updated: epoch, LastSeen: epoch,
	}
}

// seed stores an image "i1".
func seed(t testing.TB, db store.Store) {
	t.Helper()
	commit(t, db, store.CreateImage{Image: newImage("i1", "1.0")})
}

// fill stores n devices ep0, ep1, ..., each with an active update to the image i1. The ids of the
// updates are multiples of step.
func fill(t testing.TB, db store.Store, n, step int) {
	t.Helper()
	var changes []store.Change
	for i := range n {
		ep := fmt.Sprint("ep", i)
		changes = append(changes, store.CreateUpdate{Update: newUpdate(id(step*i), ep, "i1")},
			store.PutRegistration{Endpoint: ep, Registration: newRegistration("r")})
	}
	commit(t, db, changes...)
}

func commit(t testing.TB, db store.Store, changes ...store.Change) uint64 {
	t.Helper()
	seq, err := db.Commit(t.Context(), changes...)
	if err != nil {
		t.Fatalf("Commit(%T...): %v", changes[0], err)
	}
	return seq
}

// refuse asserts that the commit fails with target.
func refuse(t testing.TB, db store.Store, target error, changes ...store.Change) error {
	t.Helper()
	_, err := db.Commit(t.Context(), changes...)
	if !errors.Is(err, target) {
		t.Fatalf("Commit(%+v) = %v, want %v", changes, err, target)
	}
	return err
}

func getUpdate(t testing.TB, db store.Store, id string) store.Update {
	t.Helper()
	u, err := db.Update(t.Context(), id)
	if err != nil {
		t.Fatalf("Update(%q): %v", id, err)
	}
	return u
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func failsWith(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s = %v, want %v", what, err, target)
	}
}

// collect returns the result of key for each record.
func collect[T any](t testing.TB, seq iter.Seq2[T, error], key func(T) string) []string {
	t.Helper()
	keys := []string{}
	for record, err := range seq {
		if err != nil {
			t.Fatalf("iterating after %v: %v", keys, err)
		}
		keys = append(keys, key(record))
	}
	return keys
}

func updateID(u store.Update) string   { return u.ID }
func imageID(i store.Image) string     { return i.ID }
func endpointOf(d store.Device) string { return d.Endpoint }
func eventName(e store.Event) string   { return e.Name }

// id returns the n-th of ids that sort by n.
func id(n int) string { return fmt.Sprintf("u%06d", n) }
