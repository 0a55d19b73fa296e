package kv

import (
	"bytes"
	"strconv"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// removeDamaged removes a damaged record. It searches the indexes for entries that refer to the
// record, because the record itself cannot be read.
func removeDamaged(o *overlay, c store.RemoveDamaged) error {
	var found bool
	var err error
	switch c.Kind {
	case store.KindUpdate:
		found, err = removeUpdate(o, []byte(c.Key))
	case store.KindImage:
		found, err = removeImage(o, []byte(c.Key))
	case store.KindDevice:
		found, err = removeDevice(o, c.Key)
	case store.KindEvent:
		seq, _ := strconv.ParseUint(c.Key, 10, 64) // Normalize has checked it
		found, err = removeEvent(o, seq)
	}
	if err == nil && !found {
		err = store.ErrNotFound
	}
	return err
}

func removeUpdate(o *overlay, id []byte) (bool, error) {
	found, err := updateKind.drop(o, id)
	if err != nil {
		return false, err
	}
	byValue := func(_, value []byte) bool { return bytes.Equal(value, id) }
	byRest := func(key, _ []byte) bool { return bytes.Equal(rest(key), id) }
	found = deleteJournal(o, id) || found
	byEndRest := func(key, _ []byte) bool {
		_, of := endIn(rest(key))
		return bytes.Equal(of, id)
	}
	byLabelRest := func(key, _ []byte) bool { return bytes.Equal(rest(rest(key)), id) }
	imageOf, outcomeOf := o.sweep(byImage, nil, byRest), o.sweep(byOutcome, nil, byRest)
	for _, swept := range [][][]byte{
		imageOf, outcomeOf, o.sweep(updateKeys, nil, byValue), o.sweep(activeOf, nil, byValue),
		o.sweep(byEndpoint, nil, byRest), o.sweep(activeImages, nil, byRest), o.sweep(byLabel, nil, byLabelRest), o.sweep(byEnd, nil, byEndRest),
	} {
		found = found || len(swept) > 0
	}
	for _, image := range imageOf { // at most one
		outcome := fsm.OutcomeNone
		if len(outcomeOf) > 0 {
			outcome = fsm.Outcome(text(outcomeOf[0]))
		}
		o.count(string(text(image)), outcome, -1)
	}
	found = found || o.has(active, id)
	o.delete(active, id)
	return found, nil
}

func removeImage(o *overlay, id []byte) (bool, error) {
	found, err := imageKind.drop(o, id)
	if err != nil {
		return false, err
	}
	if key := o.first(activeImages, join(string(id), "")); found && key != nil {
		return false, &store.UpdateError{Err: store.ErrInUse, ID: string(rest(key))}
	}
	versions := o.sweep(imageVersion, nil, func(_, value []byte) bool { return bytes.Equal(value, id) })
	digests := o.sweep(imageDigest, nil, func(key, _ []byte) bool { return bytes.Equal(rest(key), id) })
	return found || len(versions)+len(digests) > 0, nil
}
