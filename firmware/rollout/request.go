package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // zones of windows, on machines that have no database of their own
	"unicode/utf8"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

// stored is what the record of a rollout keeps of its Request, beside the plan.
type stored struct {
	Update    firmware.Request `json:"update"`
	Select    *Selector        `json:"select,omitempty"`
	Only      map[int]Only     `json:"only,omitempty"`
	Downgrade bool             `json:"downgrade,omitempty"`
	Notes     string           `json:"notes,omitempty"`
	Start     bool             `json:"start,omitempty"`
	Actor     string           `json:"actor,omitempty"`
	// After is the last endpoint that the creation from Select has looked at.
	After string `json:"after,omitempty"`

	Key         string `json:"key,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`

	named map[string]uint16 // by endpoint: the bits of the stages that name it
}

func parseStored(r *Rollout) (s stored, err error) {
	if err := json.Unmarshal([]byte(r.Request), &s); err != nil {
		return s, fmt.Errorf("rollout: the request of rollout %s cannot be read: %w", r.ID, err)
	}
	s.named = map[string]uint16{}
	for stage, only := range s.Only {
		for _, endpoint := range only.Endpoints {
			s.named[endpoint] |= 1 << stage
		}
	}
	return s, nil
}

// text returns the form that the record keeps.
func (s *stored) text() (string, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return "", invalid("update", "cannot be stored: %v", err)
	}
	if len(text) > store.MaxRolloutRequest {
		return "", invalid("stages", "with the endpoints that they name, and update, have more than %d bytes", store.MaxRolloutRequest)
	}
	return string(text), nil
}

// RequestOf returns what was asked for when a rollout was created, with its edits. It has no
// Targets. The error says that the record cannot be read.
func RequestOf(r Rollout) (Request, error) {
	s, err := parseStored(&r)
	p := r.Machine.Plan
	return Request{
		Name: r.Name, Image: r.Image, Select: s.Select, Stages: p.Stages, Only: s.Only, Concurrency: p.Concurrency,
		Interval: p.Interval, MaxFailure: &p.MaxFailure, MissingAfter: p.MissingAfter, Window: p.Window,
		StartAt: p.StartAt, EndAt: p.EndAt, Downgrade: s.Downgrade, Update: s.Update, Notes: s.Notes, Start: s.Start, Actor: s.Actor,
	}, err
}

// An invalidError is an ErrInvalid with its field.
type invalidError struct{ firmware.RequestError }

func (e *invalidError) Error() string { return "rollout: " + e.Field + " " + e.Problem }

func (e *invalidError) Unwrap() []error { return []error{ErrInvalid, &e.RequestError} }

func invalid(field, format string, args ...any) error {
	return &invalidError{firmware.RequestError{Field: field, Problem: fmt.Sprintf(format, args...)}}
}

var fieldName = regexp.MustCompile(`^[a-z_]+(\[\d+\])?$`)

// invalidText turns an error that begins with the path of a field, such as "stages[0]: size: ",
// into an ErrInvalid.
func invalidText(err error) error {
	var path []string
	rest := err.Error()
	for {
		field, after, ok := strings.Cut(rest, ": ")
		if !ok || !fieldName.MatchString(field) {
			return invalid(strings.Join(path, "."), "is not valid: %s", rest)
		}
		path, rest = append(path, field), after
	}
}

// check returns what is wrong with a request, also with what its updates will ask for, and its
// parts for the record.
func (m *Manager) check(q *Request, now time.Time) (plan fsm.Plan, asked stored, err error) {
	plan, asked, err = q.check(now)
	if err != nil {
		return plan, asked, err
	}
	u := q.Update
	u.Endpoint, u.Image = "endpoint", q.Image
	if wrong := m.updates.Check(u); wrong != nil {
		err = within("update", wrong)
	}
	return plan, asked, err
}

var rolloutID = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)

// check returns what is wrong with a request, and its parts for the record.
func (q *Request) check(now time.Time) (plan fsm.Plan, asked stored, err error) {
	plan = q.plan(now)
	asked = stored{
		Update: q.Update, Select: q.Select, Only: q.Only, Downgrade: q.Downgrade, Notes: q.Notes, Start: q.Start, Actor: q.Actor,
		Key: q.Key, Fingerprint: q.Fingerprint,
	}
	switch u := q.Update; {
	case q.Image == "":
		return plan, asked, invalid("image", "is empty")
	case len(q.Image) > store.MaxID:
		return plan, asked, invalid("image", "is not an image's id")
	case (q.Targets == nil) == (q.Select == nil):
		return plan, asked, invalid("targets", "are neither endpoints nor a selector, or are both")
	case u.Endpoint != "" || u.Image != "" || u.Key != "" || u.Hold != (firmware.Hold{}):
		return plan, asked, invalid("update", "has an endpoint, an image, a key or a hold, which are the rollout's own")
	}
	if q.ID != "" && !rolloutID.MatchString(q.ID) {
		return plan, asked, invalid("id", "is not the id of a dry run")
	}
	if problem := names.Check(q.Name, 0, store.MaxName); problem != "" {
		return plan, asked, invalid("name", "%s", problem)
	}
	if err := checkActor(q.Actor); err != nil {
		return plan, asked, err
	}
	if err := checkNotes(q.Notes); err != nil {
		return plan, asked, err
	}
	if q.Select != nil {
		if err := q.Select.Check(); err != nil {
			return plan, asked, within("targets.select", err)
		}
	}
	if err := checkPlan(&plan); err != nil {
		return plan, asked, err
	}
	switch {
	case !plan.EndAt.After(now):
		return plan, asked, invalid("end_at", "has passed")
	case plan.EndAt.UTC().Year() > 9999: // 30 days after start_at, for example
		return plan, asked, invalid("end_at", "is after the year 9999")
	}
	return plan, asked, asked.checkOnly(&plan)
}

func checkPlan(p *fsm.Plan) error {
	if err := p.Check(); err != nil {
		return invalidText(err)
	}
	for field, name := range map[string]string{"window.zone": p.Window.Zone, "window.fallback_zone": p.Window.Fallback} {
		if name == "" || name == fsm.ZoneDevice && field == "window.zone" {
			continue
		}
		// "Local" is the zone of this machine, which no operator means.
		if _, err := time.LoadLocation(name); err != nil || name == "Local" {
			return invalid(field, "is not a zone of the IANA database: %q", name)
		}
	}
	return nil
}

func (s *stored) checkOnly(p *fsm.Plan) error {
	for i, stage := range p.Stages {
		only, named := s.Only[i]
		field := fmt.Sprintf("stages[%d].only", i)
		switch {
		case stage.Only && len(only.Endpoints) == 0 && len(only.Labels) == 0:
			return invalid(field, "names neither endpoints nor labels")
		case named && !stage.Only:
			return invalid(field, "is given for a stage that admits any device")
		}
		if err := (Selector{Labels: only.Labels}).Check(); err != nil {
			return within(field, err)
		}
	}
	for i := range s.Only {
		if i < 0 || i >= len(p.Stages) {
			return invalid("stages", "have no index %d, for which devices are named", i)
		}
	}
	return nil
}

func checkActor(actor string) error {
	if problem := names.Check(actor, 0, store.MaxName); problem != "" {
		return invalid("actor", "%s", problem)
	}
	return nil
}

func checkNotes(notes string) error {
	if len(notes) > maxNotes || !utf8.ValidString(notes) {
		return invalid("notes", "have more than %d bytes, or are no UTF-8", maxNotes)
	}
	return nil
}

// within returns an ErrInvalid whose field is below another one.
func within(field string, err error) error {
	var e *firmware.RequestError
	if errors.As(err, &e) {
		return invalid(field+"."+e.Field, "%s", e.Problem)
	}
	return invalid(field, "is not valid: %v", err)
}

// only returns the bits of the stages with Only that admit a device.
func (s *stored) only(d *store.Device) uint16 {
	bits := s.named[d.Endpoint]
	for stage, only := range s.Only {
		if len(only.Labels) > 0 && (Selector{Labels: only.Labels}).Match(d) {
			bits |= 1 << stage
		}
	}
	return bits
}
