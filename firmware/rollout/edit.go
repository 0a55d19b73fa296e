package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// A Change is what [Manager.Edit] changes: the fields that are not nil.
type Change struct {
	Concurrency *int
	Interval    *time.Duration
	MaxFailure  *float64
	Window      *Window // its zero value is always
	EndAt       *time.Time
	Notes       *string
}

// Edit changes the plan of a rollout that has not ended. The journal has the values before and
// after. A rollout that is so already stays as it is. The error is ErrInvalid, ErrState if the
// rollout stops or has ended, or one of [Manager.Start].
func (m *Manager) Edit(ctx context.Context, id string, c Change, o Order) (Rollout, error) {
	return m.ordered(ctx, id, ActionEdit, o, func(_ context.Context, b *batch) error {
		if !b.record.Machine.Active() || b.record.Machine.State == fsm.StateStopping {
			return nil
		}
		asked, err := parseStored(&b.record)
		if err != nil {
			return err
		}
		plan := b.record.Machine.Plan
		text := c.apply(&plan, &asked)
		if b.same = text == ""; b.same {
			return nil
		}
		if err := cmp.Or(checkPlan(&plan), checkNotes(asked.Notes)); err != nil {
			return err
		}
		if c.EndAt != nil && !c.EndAt.After(time.Now()) {
			return invalid("end_at", "has passed")
		}
		if b.record.Request, err = asked.text(); err != nil {
			return err
		}
		b.rollout(fsm.Input{Kind: fsm.InputEdit, Plan: plan, Text: text + after(o.Reason)})
		return nil
	})
}

// apply applies the change, and says what it changes.
func (c *Change) apply(p *fsm.Plan, asked *stored) (text string) {
	note := func(field string, before, after any) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s from %v to %v", field, before, after)
	}
	if c.Concurrency != nil && *c.Concurrency != p.Concurrency {
		note("concurrency", p.Concurrency, *c.Concurrency)
		p.Concurrency = *c.Concurrency
	}
	if c.Interval != nil && *c.Interval != p.Interval {
		note("rate", rate(p.Interval), rate(*c.Interval))
		p.Interval = *c.Interval
	}
	if c.MaxFailure != nil && *c.MaxFailure != p.MaxFailure {
		note("max_failure", p.MaxFailure, *c.MaxFailure)
		p.MaxFailure = *c.MaxFailure
	}
	if c.Window != nil && !sameWindow(c.Window, &p.Window) {
		note("window", windowText(&p.Window), windowText(c.Window))
		p.Window = *c.Window
	}
	if c.EndAt != nil && !c.EndAt.Equal(p.EndAt) {
		note("end_at", p.EndAt.UTC().Format(time.RFC3339), c.EndAt.UTC().Format(time.RFC3339))
		p.EndAt = *c.EndAt
	}
	if c.Notes != nil && *c.Notes != asked.Notes {
		note("notes", strconv.Quote(asked.Notes), strconv.Quote(*c.Notes))
		asked.Notes = *c.Notes
	}
	return text
}

// rate says how many admissions a minute an interval allows.
func rate(interval time.Duration) string {
	if interval <= 0 {
		return "none"
	}
	return strconv.FormatFloat(float64(time.Minute)/float64(interval), 'g', 4, 64) + " a minute"
}

func sameWindow(a, b *Window) bool {
	return slices.Equal(a.Days, b.Days) && a.From == b.From && a.To == b.To && a.Zone == b.Zone &&
		a.Fallback == b.Fallback && a.Covers == b.Covers
}

func windowText(w *Window) string {
	if w.Zone == "" {
		return "always"
	}
	text := fmt.Sprintf("%02d:%02d to %02d:%02d %s", w.From/60, w.From%60, w.To/60, w.To%60, w.Zone)
	for i, day := range w.Days {
		if i == 0 {
			text += " on "
		} else {
			text += "/"
		}
		text += day.String()[:3]
	}
	return text + " (" + string(w.Covers) + ")"
}
