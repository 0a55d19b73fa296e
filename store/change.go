package store

// A Change is one write of a [Store.Commit]: one of the types of this file.
type Change interface{ change() }

// CreateUpdate stores a new update. The store sets its Revision to 1 and its Since to the journal's last sequence number
// before this commit.
//
// ErrDuplicate (as *DuplicateError, with the id): an update with the same non-empty Key exists; it is checked first.
// ErrExists: the id is taken. ErrNotFound: the image does not exist. ErrActive (as *ActiveError, with the id of the update
// in the way): the endpoint has an active update, and the new one is active too.
type CreateUpdate struct{ Update Update }

// ReplaceUpdate stores an update in place of the one with the same id, if the stored one still has Update.Revision; the
// stored revision becomes one more. Endpoint, Image, Key, Labels, Created and Since keep their stored values.
//
// ErrNotFound: no such update. ErrDamaged (as *DamagedError): the stored one cannot be read. ErrConflict: it has another
// revision. ErrConflict too: it had ended and would be active again.
type ReplaceUpdate struct{ Update Update }

// DeleteUpdate removes an update that has ended, with its journal; its idempotency key is free again.
//
// ErrNotFound: no such update. ErrActive (as *ActiveError, with the update's own id): it has not ended. ErrDamaged (as
// *DamagedError): its record cannot be read; [RemoveDamaged] removes it.
type DeleteUpdate struct{ ID string }

// AppendEvents appends lines to the journal; the store numbers them, rising by one or more.
// The journal is bounded: of one update the first [JournalHead] and the last [JournalTail] lines are kept.
//
// ErrNotFound: an event's update does not exist.
type AppendEvents struct{ Events []Event }

// CreateImage stores a new image.
//
// ErrExists: the id is taken (and nothing else about it is said: the caller reads it). ErrVersionTaken: an image with the
// same Name and Version but another id exists.
type CreateImage struct{ Image Image }

// DeleteImage removes an image.
//
// ErrNotFound: no such image. ErrInUse (as *InUseError, with an update's id): an active update needs it. ErrDamaged (as
// *DamagedError): its record cannot be read.
type DeleteImage struct{ ID string }

// PutRegistration creates or replaces the Registration of an endpoint's [Device] and leaves the rest of the record.
// Secured is sticky: once stored true it stays true, until a [DeleteDevice].
//
// A damaged record is replaced as if there were none, so that the device can register: all that it said is lost but that
// Secured was true, which a back end keeps beside the record.
type PutRegistration struct {
	Endpoint     string
	Registration Registration
}

// PutFirmware creates or replaces the Firmware part of an endpoint's [Device] and leaves the rest of the record, and also
// Firmware.Holds: it keeps its stored value, whatever the change says, so that who writes late what was read before cannot
// bring back a claim that was cleared meanwhile. A damaged record is replaced as if there were none.
type PutFirmware struct {
	Endpoint string
	Firmware Firmware
}

// PutHolds sets Firmware.Holds of an endpoint's [Device] to 64 lower-case hex digits, or clears it with "", and leaves the
// rest of the record. Without a record it creates one, but none only to hold ""; a damaged one is replaced as if there were
// none.
type PutHolds struct{ Endpoint, Holds string }

// DeleteDevice removes all that is known of an endpoint, also that it is Secured; its updates stay.
//
// ErrNotFound: nothing is known of it. ErrActive (as *ActiveError, with the id of the update): it has an active update.
type DeleteDevice struct{ Endpoint string }

func (CreateUpdate) change()    {}
func (ReplaceUpdate) change()   {}
func (DeleteUpdate) change()    {}
func (AppendEvents) change()    {}
func (CreateImage) change()     {}
func (DeleteImage) change()     {}
func (PutRegistration) change() {}
func (PutFirmware) change()     {}
func (PutHolds) change()        {}
func (DeleteDevice) change()    {}

// Bounds of the journal of one update, in lines.
const (
	JournalHead = 32
	JournalTail = 224
)
