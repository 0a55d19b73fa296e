package fsm

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Hold keeps an update from executing. Its Holder names it, so that operators release only their
// own holds. An update may have several, and executes only when none is left. A held update
// transfers its package and then waits in State Downloaded.
type Hold struct {
	// Holder names who holds the update: 1 to MaxHolder bytes.
	Holder string `json:"holder" record:"1"`
	// Reason is for people, at most MaxHoldReason bytes.
	Reason string `json:"reason,omitempty" record:"2"`
	// Since is when the hold began; the machine sets it.
	Since time.Time `json:"since,omitzero" record:"3"`
	// Until is when the hold ends by itself, up to the year 9999; zero means never.
	Until time.Time `json:"until,omitzero" record:"4"`
}

// The bounds of holds.
const (
	MaxHolds      = 16  // of one update
	MaxHolder     = 64  // bytes
	MaxHoldReason = 255 // bytes
)

// Check returns an error if the hold is not valid.
func (h Hold) Check() error {
	switch {
	case h.Holder == "" || len(h.Holder) > MaxHolder:
		return fmt.Errorf("fsm: a holder's name has 1 to %d bytes, not %d", MaxHolder, len(h.Holder))
	case len(h.Reason) > MaxHoldReason:
		return fmt.Errorf("fsm: a hold's reason has at most %d bytes, not %d", MaxHoldReason, len(h.Reason))
	case !h.Until.IsZero() && (h.Until.UTC().Year() < 1 || h.Until.UTC().Year() > 9999):
		return fmt.Errorf("fsm: a hold ends in the years 1 to 9999, not in %d", h.Until.UTC().Year())
	case !plain(h.Holder) || !plain(h.Reason):
		return fmt.Errorf("fsm: holder and reason are UTF-8 without control characters")
	}
	return nil
}

// text says who holds the update, why, and until when.
func (h Hold) text() string {
	text := h.Holder + " holds the update"
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	if !h.Until.IsZero() {
		text += ", until " + h.Until.Format(time.RFC3339)
	}
	return text
}

// plain reports whether s is UTF-8 without control characters.
func plain(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

// Held reports whether a hold keeps the update from executing.
func (u Update) Held() bool { return u.held() }

// held is Held, without a copy of the update.
func (u *Update) held() bool { return u.active() && len(u.Holds) > 0 }

// lastUntil returns when the last hold ends by itself; zero means never.
func (u *Update) lastUntil() time.Time {
	var last time.Time
	for _, h := range u.Holds {
		if h.Until.IsZero() {
			return time.Time{}
		}
		last = later(last, h.Until)
	}
	return last
}

// nextUntil returns when the first hold ends by itself; zero means never.
func (u *Update) nextUntil() time.Time {
	var next time.Time
	for _, h := range u.Holds {
		if !h.Until.IsZero() && (next.IsZero() || h.Until.Before(next)) {
			next = h.Until
		}
	}
	return next
}

// hold adds a hold, or replaces the one of the same holder.
func (m *machine) hold(h Hold) {
	h.Until = h.Until.Round(0).UTC()
	h.Since = m.now
	if h.Check() != nil || !h.Until.IsZero() && !h.Until.After(m.now) {
		return
	}
	at := slices.IndexFunc(m.Holds, func(old Hold) bool { return old.Holder == h.Holder })
	if at < 0 && len(m.Holds) >= MaxHolds {
		return
	}
	// The update before the step shares the slice.
	holds := slices.Clone(m.Holds)
	if at >= 0 {
		h.Since = holds[at].Since
		holds[at] = h
	} else {
		holds = append(holds, h)
	}
	m.Holds, m.hard = holds, true
	detail := h.text()
	if m.Memory.Installation.Sent {
		detail += "; Execute was sent before, and what it began goes on"
	}
	m.line(EventHeld, detail)
}

// releaseHold ends the hold of one holder.
func (m *machine) releaseHold(holder, why string) {
	n := len(m.Holds)
	holds := slices.DeleteFunc(slices.Clone(m.Holds), func(h Hold) bool { return h.Holder == holder })
	if len(holds) == n {
		return
	}
	m.Holds, m.hard = holds, true
	if len(m.Holds) > 0 {
		m.log(EventReleased, "%s %s; still held by %s", holder, why, m.holders())
		return
	}
	m.Holds = nil
	m.log(EventReleased, "%s %s", holder, why)
	m.Memory.Attempt.WaitReason = "" // the hold
	m.hint()
}

// holders names the holders.
func (u *Update) holders() string {
	names := make([]string, len(u.Holds))
	for i, h := range u.Holds {
		names[i] = h.Holder
	}
	return strings.Join(names, ", ")
}

// expireHolds ends the holds whose time is over.
func (m *machine) expireHolds() {
	for _, h := range m.Holds {
		if !h.Until.IsZero() && !m.now.Before(h.Until) {
			m.releaseHold(h.Holder, "held the update until "+h.Until.Format(time.RFC3339))
		}
	}
}

// readWhileHeld plans a read every hour: the device may lose the package.
func (m *machine) readWhileHeld(why string) {
	m.Memory.Attempt.WaitReason, m.Memory.Attempt.SettleUntil = why, time.Time{}
	m.readBy(m.now.Add(heldLook))
}

// waitForHolds leaves the package on the device until the update has no hold.
func (m *machine) waitForHolds() {
	if !m.Memory.Attempt.ReadyOnHold {
		m.Memory.Attempt.ReadyOnHold = true
		m.log(EventExecuteHeld, "the device has the package; held by %s", m.holders())
	}
	m.readWhileHeld(waitHold)
}
