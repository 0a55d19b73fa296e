package store

import "time"

// A Change is one write of a [Store.Commit]: one of the types of this file.
type Change interface{ change() }

// CreateUpdate stores a new update. The store sets its Revision to 1, and its Since to the last
// sequence number of the journal before this commit.
//
// ErrDuplicate (as *UpdateError): an update with the same Key exists; the store checks this first.
// ErrExists: an update has this id. ErrNotFound: the image does not exist. ErrActive (as
// *UpdateError): the endpoint has an active update, and the new one is active too.
type CreateUpdate struct{ Update Update }

// ReplaceUpdate replaces the update with the same id, if its stored revision is Update.Revision.
// The stored revision becomes one more. Endpoint, Image, Key, Labels, Created and Since keep their
// stored values.
//
// ErrNotFound: no such update. ErrDamaged (as *DamagedError): the store cannot read it.
// ErrConflict: it has another revision, or it has ended and the new record is active.
type ReplaceUpdate struct{ Update Update }

// DeleteUpdate removes an update that has ended, with its journal. Its idempotency key stays taken
// until [KeyRest] after At, so that a request which is repeated late does not start a second
// update: a CreateUpdate with that Key fails with ErrDuplicate, and the id of the removed update,
// unless it was Created later. If At is zero, the key is free at once.
//
// ErrNotFound: no such update. ErrActive (as *UpdateError, with its own id): it has not ended.
// ErrDamaged (as *DamagedError): the store cannot read it; [RemoveDamaged] removes it.
type DeleteUpdate struct {
	ID string
	At time.Time
}

// KeyRest is how long an idempotency key outlives its update; see [DeleteUpdate].
const KeyRest = 24 * time.Hour

// AppendEvents appends lines to the journal. The store numbers them, in rising order. Of each
// update it keeps the first [JournalHead] and the last [JournalTail] lines.
//
// ErrNotFound: the update of an event does not exist.
type AppendEvents struct{ Events []Event }

// CreateImage stores a new image.
//
// ErrExists: an image has this id, whether or not the rest is equal. ErrVersionTaken: an image with
// another id has the same Name and Version.
type CreateImage struct{ Image Image }

// DeleteImage removes an image.
//
// ErrNotFound: no such image. ErrInUse (as *UpdateError): an active update needs it. ErrDamaged (as
// *DamagedError): the store cannot read it.
type DeleteImage struct{ ID string }

// PutRegistration sets the Registration of an endpoint's [Device], and creates the record if there
// is none. Once stored true, Secured stays true until a [DeleteDevice].
//
// A damaged record is replaced as if there were none, so that the device can register. Its content
// is lost, except what a back end keeps beside the record too: that Secured was true, and the
// Labels.
type PutRegistration struct {
	Endpoint     string
	Registration RegistrationRecord
}

// PutFirmware sets the Firmware of an endpoint's [Device] except Firmware.Holds, and creates the
// record if there is none. Holds keeps its stored value, so that a late write of an early reading
// does not bring back a claim that [PutHolds] has cleared. A damaged record is replaced as if there
// were none.
type PutFirmware struct {
	Endpoint string
	Firmware Firmware
}

// PutHolds sets Firmware.Holds of an endpoint's [Device] to 64 lower-case hex digits, or clears it
// with "". It creates the record if there is none, unless Holds is "". A damaged record is replaced
// as if there were none.
type PutHolds struct{ Endpoint, Holds string }

// PutFacts sets the Facts of an endpoint's [Device], and creates the record if there is none. A
// damaged record is replaced as if there were none.
type PutFacts struct {
	Endpoint string
	Facts    Facts
}

// PutLabels sets the Labels of an endpoint's [Device]: those that the device had, and that are not
// among them, are gone. It creates the record if there is none, unless there are no labels. A
// damaged record is replaced as if there were none.
type PutLabels struct {
	Endpoint string
	Labels   map[string]string // as CheckDeviceLabels says
}

// DeleteDevice removes the record of an endpoint, including that the device is Secured, and its
// Labels. Its updates stay.
//
// ErrNotFound: there is no record. ErrActive (as *UpdateError): the endpoint has an active update.
type DeleteDevice struct{ Endpoint string }

// RemoveDamaged removes a damaged record and what refers to it: the place of an update as the
// active one of its endpoint, its idempotency key and its journal; the name and version of an
// image; the place of an event in a journal. Of a device that is Secured, or has Labels, a
// record with nothing else stays; [DeleteDevice] removes it. A back end may search all records
// of an index, and block other commits meanwhile.
//
// ErrNotFound: there is no such record, and nothing refers to one. ErrNotDamaged: the store can
// read the record. ErrInUse (as *UpdateError): an active update needs the image.
type RemoveDamaged struct {
	Kind Kind
	Key  string // as in DamagedError
}

func (CreateUpdate) change()    {}
func (ReplaceUpdate) change()   {}
func (DeleteUpdate) change()    {}
func (AppendEvents) change()    {}
func (CreateImage) change()     {}
func (DeleteImage) change()     {}
func (PutRegistration) change() {}
func (PutFirmware) change()     {}
func (PutHolds) change()        {}
func (PutFacts) change()        {}
func (PutLabels) change()       {}
func (DeleteDevice) change()    {}
func (RemoveDamaged) change()   {}

// Bounds of the journal of one update, in lines.
const (
	JournalHead = 32
	JournalTail = 224
)
