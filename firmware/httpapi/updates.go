package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

const maxKey = 255 // bytes of an Idempotency-Key

// updateRequest is the body of POST /api/v1/updates.
type updateRequest struct {
	Endpoint string    `json:"endpoint"`
	Image    string    `json:"image"`
	Hold     *holdBody `json:"hold"`
	updateOptions
}

// updateOptions are the fields that the updates of a rollout have too.
type updateOptions struct {
	Delivery string            `json:"delivery"`
	Protocol string            `json:"protocol"`
	Verify   string            `json:"verify"`
	Deadline json.RawMessage   `json:"deadline"`
	Attempts *int              `json:"attempts"`
	Force    bool              `json:"force"`
	Profile  string            `json:"profile"`
	Labels   map[string]string `json:"labels"`
}

func (u updateRequest) parse() (firmware.Request, error) {
	request, err := u.updateOptions.parse("")
	if err != nil {
		return request, err
	}
	request.Endpoint, request.Image = u.Endpoint, u.Image
	if problem := checkEndpoint(u.Endpoint); problem != "" {
		return request, invalidField("endpoint", problem)
	}
	if u.Image == "" || len(u.Image) > maxID {
		return request, invalidField("image", "must be the id of an image")
	}
	if u.Hold != nil {
		if request.Hold, err = u.Hold.parse("hold."); err != nil {
			return request, err
		}
	}
	return request, nil
}

// checkEndpoint returns what is wrong with an endpoint of a body, or "".
func checkEndpoint(endpoint string) string {
	if strings.ContainsRune(endpoint, utf8.RuneError) { // the decoder makes it of half a surrogate pair
		return "must be Unicode text"
	}
	if endpoint == "." || endpoint == ".." {
		return "must not be . or .., which no path can name"
	}
	return names.Check(endpoint, 1, maxEndpoint)
}

// parse returns a request without endpoint and image. In a problem, the prefix in precedes the name
// of the wrong field.
func (u updateOptions) parse(in string) (firmware.Request, error) {
	request := firmware.Request{Force: u.Force, Profile: u.Profile, Labels: u.Labels}
	var err error
	if request.Deadline, err = parseDuration(u.Deadline, in+"deadline", "24h"); err != nil {
		return request, err
	}
	if u.Attempts != nil {
		if request.Attempts = *u.Attempts; request.Attempts < 1 {
			return request, invalidField(in+"attempts", "must be a number from 1 on")
		}
	}
	if err := request.Delivery.UnmarshalText([]byte(u.Delivery)); err != nil || !isLower(u.Delivery) {
		return request, invalidField(in+"delivery", "must be auto, push or pull")
	}
	if err := request.Protocol.UnmarshalText([]byte(u.Protocol)); err != nil || !isLower(u.Protocol) {
		return request, invalidField(in+"protocol", "must be auto, coap, coaps, coap+tcp, coaps+tcp, http or https")
	}
	switch request.Verify = fsm.Verify(u.Verify); request.Verify {
	case "", fsm.VerifyVersion, fsm.VerifyResult:
	default:
		return request, invalidField(in+"verify", "must be version or result")
	}
	return request, nil
}

// isLower reports whether a word is written as this package's documentation has it: package fsm
// reads words in any case.
func isLower(word string) bool { return word == strings.ToLower(word) }

// parseDuration returns a duration that a body has as text, such as "24h", or as a number of
// seconds; 0 if it is absent or null.
func parseDuration(data json.RawMessage, field, example string) (time.Duration, error) {
	wrong := invalidField(field, `must be a duration such as "`+example+`" or "90m", or a number of seconds, and positive`)
	if len(data) == 0 || string(data) == "null" {
		return 0, nil
	}
	var text string
	if json.Unmarshal(data, &text) == nil {
		parsed, err := time.ParseDuration(text)
		if err != nil || parsed <= 0 {
			return 0, wrong
		}
		return parsed, nil
	}
	seconds, err := strconv.ParseFloat(string(data), 64)
	if err != nil || !(seconds > 0) || seconds > math.MaxInt64/float64(time.Second)/2 {
		return 0, wrong
	}
	d := time.Duration(seconds * float64(time.Second))
	if d == 0 { // less than a nanosecond
		return 0, wrong
	}
	return d, nil
}

// readStart reads the request of POST /api/v1/updates. Its errors disclose nothing beyond this
// package's documentation.
func readStart(w http.ResponseWriter, r *http.Request, req *request) error {
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var body updateRequest
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if req.start, err = body.parse(); err != nil {
		return err
	}
	if key != "" {
		// Each endpoint has its own keys, so that users cannot learn or take keys of endpoints on
		// which they have no rights.
		sum := sha256.Sum256([]byte(body.Endpoint + "\x00" + key))
		req.start.Key = hex.EncodeToString(sum[:])
	}
	req.access.Endpoint, req.access.Image = req.start.Endpoint, req.start.Image
	return nil
}

func (a *api) startUpdate(w http.ResponseWriter, r *http.Request, req request) error {
	update, err := a.manager.Start(r.Context(), req.start)
	if wrong, ok := errors.AsType[*firmware.RequestError](err); ok && wrong.Field == "key" {
		return newProblem(http.StatusUnprocessableEntity, "key-reused", "the Idempotency-Key "+wrong.Problem)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return invalidImage()
	case err != nil:
		return holdRefused(err, "hold.")
	}
	w.Header().Set("Location", "updates/"+update.ID) // relative to /api/v1/updates, under any prefix
	return writeJSON(w, http.StatusCreated, viewUpdate(update))
}

func invalidImage() error {
	p := newProblem(http.StatusNotFound, "not-found", "there is no image of that id")
	p.Field = "image"
	return p
}

func idempotencyKey(r *http.Request) (string, error) {
	keys, ok := r.Header["Idempotency-Key"]
	if !ok {
		return "", nil
	}
	if len(keys) != 1 || keys[0] == "" || len(keys[0]) > maxKey ||
		strings.ContainsFunc(keys[0], func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", newProblem(http.StatusBadRequest, "bad-request", "Idempotency-Key must be one value of 1 to 255 printable ASCII characters")
	}
	if strings.HasPrefix(keys[0], rollout.KeyPrefix) {
		return "", newProblem(http.StatusBadRequest, "bad-request", "Idempotency-Key must not begin with "+rollout.KeyPrefix+", as those of rollouts do")
	}
	return keys[0], nil
}

func (a *api) listUpdates(w http.ResponseWriter, r *http.Request, req request) error {
	limit, err := req.query.limit()
	if err != nil {
		return err
	}
	q := store.UpdateQuery{Endpoint: req.query.get("endpoint"), Image: req.query.get("image"), Limit: limit + 1}
	if q.Labels, err = req.query.labels(); err != nil {
		return err
	}
	if err := filterUpdates(&q, req.query); err != nil {
		return err
	}
	kind, key := "updates", func(u firmware.Update) string { return u.ID }
	switch {
	case !req.query.has("order"):
	case req.query.get("order") != "ended":
		return invalidQuery("order", "order must be ended, or absent for the newest first")
	case q.Outcome == fsm.OutcomeNone:
		return invalidQuery("order", "order needs the outcome of updates that have ended: order=ended&outcome=failed")
	default:
		q.ByEnd = true
		kind, key = "ended", func(u firmware.Update) string { return strconv.FormatInt(u.End().UnixMicro(), 10) + "," + u.ID }
	}
	if q.After, err = req.query.cursor(kind); err != nil {
		return err
	}
	if q.ByEnd && q.After != "" {
		end, id, _ := strings.Cut(q.After, ",")
		micro, err := strconv.ParseInt(end, 10, 64)
		if err != nil || id == "" {
			return invalidQuery("cursor", "cursor is not the next of a page of this list")
		}
		q.After, q.AfterEnd = id, time.UnixMicro(micro)
	}
	return writePage(w, limit, kind, a.manager.List(r.Context(), q), key, viewUpdate)
}

func filterUpdates(q *store.UpdateQuery, query query) error {
	var outcome fsm.Outcome
	byOutcome := query.has("outcome")
	if byOutcome {
		if err := outcome.UnmarshalText([]byte(query.get("outcome"))); err != nil || string(outcome) != query.get("outcome") {
			return invalidQuery("outcome", "outcome must be succeeded, rolled_back, failed, cancelled or timed_out, or empty for active updates")
		}
		q.Active, q.Outcome = outcome == fsm.OutcomeNone, outcome
	}
	var state fsm.State
	byState := query.has("state")
	if byState {
		if err := state.UnmarshalText([]byte(query.get("state"))); err != nil || state < fsm.Idle || state > fsm.Updating ||
			state.String() != query.get("state") { // it could be a number, or written otherwise
			return invalidQuery("state", "state must be idle, downloading, downloaded or updating")
		}
		// The state of an update that has ended is idle.
		q.Active = q.Active || state != fsm.Idle
	}
	reason, whose := query.get("reason"), fsm.Whose(query.get("whose"))
	switch whose {
	case fsm.WhoseDevice, fsm.WhoseOperator, fsm.WhoseServer:
		q.Active = true
	default:
		if query.has("whose") {
			return invalidQuery("whose", "whose must be device, operator or server")
		}
	}
	if query.has("reason") && (reason == "" || len(reason) > maxID || strings.Trim(reason, "abcdefghijklmnopqrstuvwxyz_") != "") {
		return invalidQuery("reason", "reason must be the reason of an update that has ended, such as device_result")
	}
	has, err := query.part()
	if err != nil {
		return err
	}
	if byState || reason != "" || whose != "" || has != nil {
		q.Filter = func(u store.Update) bool {
			m := &u.Machine
			return (!byState || m.State == state) && (reason == "" || string(m.Reason) == reason) &&
				(whose == "" || m.Active() && m.Wait.Whose == whose) && (has == nil || has(u.ID, u.Endpoint))
		}
	}
	return nil
}

// A countView says how many updates to an image have an outcome.
type countView struct {
	Image   string `json:"image"`
	Outcome string `json:"outcome"`
	Updates uint64 `json:"updates"`
}

func (a *api) countUpdates(w http.ResponseWriter, r *http.Request, req request) error {
	counts, err := a.manager.Counts(r.Context(), req.query.get("image"))
	if err != nil {
		return err
	}
	p := page{Items: []any{}}
	for _, c := range counts {
		p.Items = append(p.Items, countView{c.Image, string(c.Outcome), c.Updates})
	}
	return writeJSON(w, http.StatusOK, p)
}

func (a *api) getUpdate(w http.ResponseWriter, r *http.Request, req request) error {
	update, err := a.manager.Get(r.Context(), req.update)
	if err != nil {
		return err
	}
	return a.writeWithJournal(w, r, update)
}

// deleteUpdate deletes an update that has ended, or one whose record is damaged: such a record may
// block new updates of its endpoint.
func (a *api) deleteUpdate(w http.ResponseWriter, r *http.Request, req request) error {
	err := a.manager.DeleteUpdate(r.Context(), req.update)
	if errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrNotFound) { // other records may still refer to the update
		err = a.manager.RemoveDamaged(r.Context(), req.update)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) cancelUpdate(w http.ResponseWriter, r *http.Request, req request) error {
	if err := readNothing(w, r); err != nil {
		return err
	}
	update, err := a.manager.Cancel(r.Context(), req.update)
	if errors.Is(err, firmware.ErrEnded) && update.Machine.Outcome == fsm.OutcomeCancelled {
		err = nil // to cancel twice is no error
	}
	return a.ordered(w, r, update, err)
}

func (a *api) writeWithJournal(w http.ResponseWriter, r *http.Request, update firmware.Update) error {
	view := viewUpdate(update)
	view.Journal, view.IfCancelled = []any{}, viewCancel(update)
	for event, err := range a.manager.Journal(r.Context(), update.ID) {
		if damaged, ok := errors.AsType[*store.DamagedError](err); ok {
			view.Journal = append(view.Journal, viewDamaged(damaged))
			continue
		}
		if err != nil {
			return err
		}
		view.Journal = append(view.Journal, lineView{Time: event.Time, Event: event.Name, Detail: event.Detail})
	}
	return writeJSON(w, http.StatusOK, view)
}
