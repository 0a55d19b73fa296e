package firmware

import (
	"encoding"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

// Profiles returns the built-in profiles by name: how kinds of clients differ from the
// specification. The map belongs to the caller.
//
//	fixed-host          takes only a path as Package URI, since its host is fixed in its firmware
//	pull, push          supports both, and only one of them works well
//	no-duplicate-cache  recognises no duplicates and takes the blocks of a push only in order, such as Anjay by default;
//	                    a client that accepts gaps would store a hole
//	large-blocks        takes 16 KiB of a push in one message over TCP and TLS
func Profiles() map[string]Profile {
	return map[string]Profile{
		// A client that follows the specification.
		"": {},
		// A client with a fixed host: it takes only a path as Package URI, starts a download of
		// whatever is written, even if that is empty, and may answer only after the download. Its
		// packages are public.
		"fixed-host": {
			Name: "fixed-host", PathOnly: true, Reset: fsm.ResetNone, Delivery: fsm.DeliveryPull,
			Protocols: []fsm.Protocol{
				fsm.ProtocolHTTPS, fsm.ProtocolHTTP, fsm.ProtocolCoAPS, fsm.ProtocolCoAP,
			},
			WriteGrace: 10 * time.Minute,
		},
		// A client that reports that it accepts a push, but should pull: AVSystem's Anjay does
		// nothing else during a push.
		"pull": {Name: "pull", Delivery: fsm.DeliveryPull},
		// A client that recognises no duplicates and takes blocks only in order: AVSystem's Anjay
		// by default. Wrong for a client that accepts gaps.
		"no-duplicate-cache": {Name: "no-duplicate-cache", SkipTaken: true},
		// A client that takes 16 KiB of a package in one message over TCP and TLS.
		"large-blocks": {Name: "large-blocks", BlockSize: 16 << 10},
		// A client for which a push works better.
		"push": {Name: "push", Delivery: fsm.DeliveryPush},
	}
}

var builtIn = sync.OnceValue(Profiles)

// check returns the profile of a request, or the error in the request.
func (m *Manager) check(r Request) (fsm.Profile, error) {
	bad := func(field, problem string) (fsm.Profile, error) {
		return fsm.Profile{}, &RequestError{Field: field, Problem: problem}
	}
	if problem := names.Check(r.Endpoint, 1, store.MaxEndpoint); problem != "" {
		return bad("endpoint", problem)
	}
	if r.Key != "" {
		if problem := names.Check(r.Key, 1, store.MaxName); problem != "" {
			return bad("key", problem)
		}
	}
	if !m.owns(r.Endpoint) {
		return bad("endpoint", "does not belong to this manager")
	}
	profile, ok := m.config.Profiles[r.Profile]
	if !ok {
		profile, ok = builtIn()[r.Profile]
	}
	switch {
	case r.Image == "":
		return bad("image", "is empty")
	case len(r.Image) > store.MaxID:
		return bad("image", "is not an image's id")
	case r.Delivery == fsm.DeliveryPush && r.Protocol != fsm.ProtocolAuto:
		return bad("protocol", "makes the device pull, but delivery is push")
	case r.Deadline < 0 || r.Deadline > MaxDeadline:
		return bad("deadline", "must be positive and at most a year")
	case r.Verify != "" && r.Verify != fsm.VerifyVersion && r.Verify != fsm.VerifyResult:
		return bad("verify", fmt.Sprintf("%.40q is not known", r.Verify))
	case r.Attempts < 0 || r.Attempts > MaxAttempts:
		return bad("attempts", fmt.Sprintf("must be from 1 to %d", MaxAttempts))
	case !ok:
		return bad("profile", fmt.Sprintf("%.40q is not known", r.Profile))
	}
	if r.Hold != (fsm.Hold{}) {
		if err := r.Hold.Check(); err != nil {
			return bad("hold", holdProblem(err))
		}
	}
	if err := store.CheckLabels(r.Labels); err != nil {
		return bad("labels", "are not valid: "+strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": "))
	}
	// A value that passed here but could not be read back would make a damaged record.
	for _, word := range []struct {
		field string
		value encoding.TextMarshaler
	}{{"delivery", r.Delivery}, {"protocol", r.Protocol}} {
		if _, err := word.value.MarshalText(); err != nil {
			return bad(word.field, fmt.Sprintf("%.40q is not known", word.value))
		}
	}
	if err := profile.Check(); err != nil {
		return bad("profile", "is not valid: "+err.Error())
	}
	return profile, nil
}
