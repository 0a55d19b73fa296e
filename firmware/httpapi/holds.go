package httpapi

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/internal/names"
)

// holdBody is a hold in a request.
type holdBody struct {
	Holder string  `json:"holder"`
	Reason string  `json:"reason"`
	Until  *string `json:"until"`
}

// rfc3339 excludes what time.Parse accepts but RFC 3339 does not, such as an hour of one digit, or
// a comma before a fraction.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):\d\d)$`)

// parse returns the hold. In a problem, the prefix in precedes the name of the wrong field.
func (b holdBody) parse(in string) (fsm.Hold, error) {
	h := fsm.Hold{Holder: b.Holder, Reason: b.Reason}
	if problem := checkHolder(b.Holder); problem != "" {
		return h, invalidField(in+"holder", problem)
	}
	if problem := names.Check(b.Reason, 0, fsm.MaxHoldReason); problem != "" {
		return h, invalidField(in+"reason", problem)
	}
	var err error
	h.Until, err = parseInstant(b.Until, in+"until")
	return h, err
}

// parseInstant returns a time that a body has as text; the zero time if it is absent or null.
func parseInstant(text *string, field string) (time.Time, error) {
	if text == nil {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, *text)
	if err != nil || !rfc3339.MatchString(*text) {
		return at, invalidField(field, "must be a time of RFC 3339 with its zone, such as 2026-01-02T15:04:05Z")
	}
	at = at.UTC()
	switch {
	case at.IsZero(): // zero would mean that it is absent
		return at, invalidField(field, "has passed")
	case at.Year() > 9999:
		return at, invalidField(field, "must be before the year 10000 in UTC")
	}
	return at, nil
}

// checkHolder returns what is wrong with the name of a holder, or "".
func checkHolder(holder string) string {
	if strings.ContainsRune(holder, utf8.RuneError) { // the decoder makes it of half a surrogate pair
		return "is not Unicode text"
	}
	if strings.HasPrefix(holder, rollout.KeyPrefix) {
		return "begins with " + rollout.KeyPrefix + ", as only the holds of rollouts do"
	}
	return names.Check(holder, 1, fsm.MaxHolder)
}

// holdRefused translates the manager's error about a hold into a problem that names the field. in
// is as for parse.
func holdRefused(err error, in string) error {
	wrong, ok := errors.AsType[*firmware.RequestError](err)
	switch {
	case !ok:
		return err
	case wrong.Field == "until":
		return invalidField(in+"until", wrong.Problem)
	case wrong.Field == "hold": // parse has checked holder and reason, so there are too many holds
		return invalidField(in+"holder", wrong.Problem)
	default:
		return err
	}
}

func (a *api) holdUpdate(w http.ResponseWriter, r *http.Request, req request) error {
	var body holdBody
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	h, err := body.parse("")
	if err != nil {
		return err
	}
	update, err := a.manager.Hold(r.Context(), req.update, h)
	return a.ordered(w, r, update, holdRefused(err, ""))
}

func (a *api) releaseUpdate(w http.ResponseWriter, r *http.Request, req request) error {
	var body struct {
		Holder string `json:"holder"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if problem := checkHolder(body.Holder); problem != "" {
		return invalidField("holder", problem)
	}
	update, err := a.manager.Release(r.Context(), req.update, body.Holder)
	return a.ordered(w, r, update, err)
}

func (a *api) updateServed(w http.ResponseWriter, r *http.Request, req request) error {
	if err := readNothing(w, r); err != nil {
		return err
	}
	served := a.manager.Served(r.Context(), req.update)
	if served != nil && !errors.Is(served, firmware.ErrEnded) {
		return served
	}
	update, err := a.manager.Get(r.Context(), req.update)
	if err != nil {
		return err
	}
	return a.ordered(w, r, update, served)
}

// ordered answers a call that changes an active update, with the changed update.
func (a *api) ordered(w http.ResponseWriter, r *http.Request, update firmware.Update, err error) error {
	if errors.Is(err, firmware.ErrEnded) {
		p := newProblem(http.StatusConflict, "update-ended", "the update has ended already: "+string(update.Machine.Outcome))
		p.Update = update.ID
		return p
	}
	if err != nil {
		return err
	}
	return a.writeWithJournal(w, r, update)
}
