package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// Bounds of the body that makes a rollout.
const (
	maxTargets = 100_000
	maxRollout = 32 << 20 // bytes: so many endpoints of 255 bytes fit
	maxRate    = 1_000_000
	maxTime    = 10 * 365 * 24 * time.Hour // of soak and missing_after
)

// rolloutRequest is the body of POST /api/v1/rollouts.
type rolloutRequest struct {
	Name        string          `json:"name"`
	Image       string          `json:"image"`
	Stages      []stageBody     `json:"stages"`
	Concurrency *int            `json:"concurrency"`
	Rate        *float64        `json:"rate"`
	MaxFailure  *float64        `json:"max_failure"`
	Missing     json.RawMessage `json:"missing_after"`
	Window      *windowBody     `json:"window"`
	StartAt     *string         `json:"start_at"`
	EndAt       *string         `json:"end_at"`
	Downgrade   bool            `json:"downgrade"`
	Update      updateOptions   `json:"update"`
	Notes       string          `json:"notes"`
	Start       bool            `json:"start"`

	targets targetsBody // the field targets
}

// targetsBody names the devices of a rollout.
type targetsBody struct {
	Select *rollout.Selector `json:"select"`

	endpoints endpointList // the field endpoints
}

// UnmarshalJSON decodes the body. Only the endpoints may be more than maxJSON bytes.
func (b *rolloutRequest) UnmarshalJSON(data []byte) error {
	type plain rolloutRequest
	targets, rest, err := split(data, "targets")
	if err != nil {
		return err
	}
	if err := decodeJSON(rest, (*plain)(b)); err != nil || targets == nil {
		return err
	}
	endpoints, rest, err := split(targets, "endpoints")
	if err != nil {
		return err
	}
	if err := decodeJSON(rest, &b.targets); err != nil || endpoints == nil {
		return err
	}
	return b.targets.endpoints.decode(endpoints)
}

// split takes a field out of a JSON object, if it is one, and returns its value and the rest.
func split(data []byte, field string) (value, rest []byte, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return nil, data, nil
	}
	rest = []byte{'{'}
	for decoder.More() {
		name, err := decoder.Token()
		var raw json.RawMessage
		if err == nil {
			err = decoder.Decode(&raw)
		}
		switch {
		case err != nil:
			return nil, nil, err
		case name == field && value != nil:
			return nil, nil, invalidField(field, "is there more than once")
		case name == field:
			value = raw
			continue
		case len(rest)+len(name.(string))+len(raw) > maxJSON:
			return nil, nil, newProblem(http.StatusRequestEntityTooLarge, "too-large",
				fmt.Sprintf("the body must not be longer than %d bytes, without the endpoints of targets", maxJSON))
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, nil, err
		}
		rest = append(append(append(rest, quoted...), ':'), raw...)
	}
	return value, append(rest, '}'), nil
}

// stageBody is a stage of a rollout.
type stageBody struct {
	Size   json.RawMessage `json:"size"`
	Only   *onlyBody       `json:"only"`
	Manual bool            `json:"manual"`
	Soak   json.RawMessage `json:"soak"`
}

// onlyBody names the devices that a stage admits.
type onlyBody struct {
	Endpoints endpointList      `json:"endpoints"`
	Labels    map[string]string `json:"labels"`
}

// windowBody is when devices install, in bodies and in answers.
type windowBody struct {
	Days     []string `json:"days,omitempty"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Zone     string   `json:"zone"`
	Fallback string   `json:"fallback_zone,omitempty"`
	Covers   string   `json:"covers"`
}

// endpointList reads at most maxTargets endpoints: a longer list costs no memory.
type endpointList []string

func (l *endpointList) UnmarshalJSON(data []byte) error { return l.decode(data) }

func (l *endpointList) decode(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('[') {
		return invalidField("endpoints", "must be a list of endpoints")
	}
	list := endpointList{}
	for decoder.More() {
		if len(list) == maxTargets {
			return invalidField("endpoints", fmt.Sprintf("are more than %d: select the devices, or add the rest later", maxTargets))
		}
		token, err := decoder.Token()
		endpoint, ok := token.(string)
		if err != nil || !ok {
			return invalidField("endpoints", fmt.Sprintf("must be a list of endpoints; item %d is none", len(list)))
		}
		list = append(list, endpoint)
	}
	*l = list
	return nil
}

// check returns the problem of the first endpoint that is none, or is there twice.
func (l endpointList) check(field string) error {
	seen := make(map[string]int, len(l))
	for i, endpoint := range l {
		at := fmt.Sprintf("%s[%d]", field, i)
		if problem := checkEndpoint(endpoint); problem != "" {
			return invalidField(at, problem)
		}
		if first, twice := seen[endpoint]; twice {
			return invalidField(at, fmt.Sprintf("is the same endpoint as %s[%d]", field, first))
		}
		seen[endpoint] = i
	}
	return nil
}

// parse returns the request. What it does not check, the manager of rollouts does.
func (b *rolloutRequest) parse() (q rollout.Request, err error) {
	q = rollout.Request{
		Name: b.Name, Image: b.Image, MaxFailure: b.MaxFailure, Downgrade: b.Downgrade, Notes: b.Notes, Start: b.Start,
	}
	if b.Image == "" || len(b.Image) > maxID {
		return q, invalidField("image", "must be the id of an image")
	}
	switch t := &b.targets; {
	case len(t.endpoints) == 0 && t.Select == nil:
		return q, invalidField("targets", `must name devices, such as {"endpoints": ["dev"]} or {"select": {"model": "sensor"}}`)
	case t.endpoints != nil && t.Select != nil:
		return q, invalidField("targets", "must have endpoints or select, not both")
	case t.Select != nil:
		q.Select = t.Select
	default:
		if err := t.endpoints.check("targets.endpoints"); err != nil {
			return q, err
		}
		q.Targets = rollout.Endpoints(t.endpoints...)
	}
	if err := b.stages(&q); err != nil {
		return q, err
	}
	if b.Concurrency != nil {
		if q.Concurrency = *b.Concurrency; q.Concurrency < 1 { // 0 would mean the default
			return q, invalidField("concurrency", "must be a number from 1 on")
		}
	}
	if q.Interval, err = parseRate(b.Rate); err != nil {
		return q, err
	}
	if q.MissingAfter, err = parseTimeSpan(b.Missing, "missing_after", "30m"); err != nil {
		return q, err
	}
	if q.Window, err = b.Window.parse(); err != nil {
		return q, err
	}
	if q.StartAt, err = parseInstant(b.StartAt, "start_at"); err != nil {
		return q, err
	}
	if q.EndAt, err = parseInstant(b.EndAt, "end_at"); err != nil {
		return q, err
	}
	q.Update, err = b.Update.parse("update.")
	return q, err
}

func (b *rolloutRequest) stages(q *rollout.Request) error {
	if b.Stages != nil && len(b.Stages) == 0 || len(b.Stages) > fsm.MaxStages {
		return invalidField("stages", fmt.Sprintf("must be a list of 1 to %d stages, or absent", fsm.MaxStages))
	}
	for i, s := range b.Stages {
		in := fmt.Sprintf("stages[%d].", i)
		stage, err := parseSize(s.Size, in+"size")
		if err != nil {
			return err
		}
		stage.Manual = s.Manual
		if stage.Soak, err = parseSoak(s.Soak, in+"soak"); err != nil {
			return err
		}
		if s.Only != nil {
			if err := s.Only.Endpoints.check(in + "only.endpoints"); err != nil {
				return err
			}
			stage.Only = true
			if q.Only == nil {
				q.Only = map[int]rollout.Only{}
			}
			q.Only[i] = rollout.Only{Endpoints: s.Only.Endpoints, Labels: s.Only.Labels}
		}
		q.Stages = append(q.Stages, stage)
	}
	return nil
}

// parseSize returns a stage of a size: a number of devices, or a share such as "10%".
func parseSize(data json.RawMessage, field string) (stage rollout.Stage, err error) {
	wrong := invalidField(field, fmt.Sprintf(`must be a number of devices from 1 to %d, or a share such as "10%%" above 0%% and up to 100%%`, math.MaxInt32))
	var text string
	if json.Unmarshal(data, &text) == nil && len(data) > 0 && data[0] == '"' {
		number, isShare := strings.CutSuffix(text, "%")
		share, err := strconv.ParseFloat(number, 64)
		if !isShare || err != nil || !decimal.MatchString(number) || !(share > 0 && share <= 100) {
			return stage, wrong
		}
		stage.Share = share / 100
		return stage, nil
	}
	n, err := strconv.Atoi(string(data))
	if err != nil || n < 1 || n > math.MaxInt32 {
		return stage, wrong
	}
	stage.Size = n
	return stage, nil
}

// decimal excludes what ParseFloat accepts beyond decimals, such as NaN and 0x1p-2.
var decimal = regexp.MustCompile(`^[0-9]{1,20}(\.[0-9]{1,20})?$`)

// parseRate returns the time between two admissions; 0 if there is no rate.
func parseRate(rate *float64) (time.Duration, error) {
	if rate == nil {
		return 0, nil
	}
	if !(*rate >= 0.001 && *rate <= maxRate) {
		return 0, invalidField("rate", fmt.Sprintf("must be admissions a minute, from 0.001 to %d", maxRate))
	}
	return time.Duration(math.Ceil(float64(time.Minute) / *rate)), nil
}

// parseTimeSpan returns a duration of at most maxTime; 0 if it is absent.
func parseTimeSpan(data json.RawMessage, field, example string) (time.Duration, error) {
	d, err := parseDuration(data, field, example)
	if err == nil && d > maxTime {
		err = invalidField(field, "must be at most ten years")
	}
	return d, err
}

// parseSoak returns a duration that may be 0.
func parseSoak(data json.RawMessage, field string) (time.Duration, error) {
	var text string
	if _ = json.Unmarshal(data, &text); text != "" {
		if d, err := time.ParseDuration(text); err == nil && d == 0 {
			return 0, nil
		}
	}
	if string(data) == "0" {
		return 0, nil
	}
	return parseTimeSpan(data, field, "10m")
}

var clock = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

// dayNames are the words for the days of a window.
var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // by time.Weekday

// parse returns the window; the zero value, which is always, if there is none.
func (b *windowBody) parse() (w rollout.Window, err error) {
	if b == nil {
		return w, nil
	}
	for i, name := range b.Days {
		day := slices.Index(dayNames, name)
		if day < 0 || slices.Contains(w.Days, time.Weekday(day)) {
			return w, invalidField(fmt.Sprintf("window.days[%d]", i), "must be one of mon, tue, wed, thu, fri, sat and sun, each once")
		}
		w.Days = append(w.Days, time.Weekday(day))
	}
	for _, end := range []struct {
		name, text string
		minute     *int
	}{{"from", b.From, &w.From}, {"to", b.To, &w.To}} {
		if !clock.MatchString(end.text) {
			return w, invalidField("window."+end.name, "must be a time of day from 00:00 to 23:59, such as 22:00")
		}
		at, _ := time.Parse("15:04", end.text)
		*end.minute = at.Hour()*60 + at.Minute()
	}
	if w.From == w.To {
		return w, invalidField("window.to", "must differ from window.from")
	}
	w.Zone, w.Fallback = b.Zone, b.Fallback
	if w.Zone == "" { // without a zone it would mean always
		return w, invalidField("window.zone", "must be a zone such as Europe/Oslo, or device")
	}
	switch w.Covers = fsm.Covers(b.Covers); w.Covers {
	case "":
		w.Covers = fsm.CoversInstall
	case fsm.CoversInstall, fsm.CoversAll:
	default:
		return w, invalidField("window.covers", "must be install or all")
	}
	return w, nil
}

// changeBody is the body of PATCH /api/v1/rollouts/{rollout}. What is absent stays; null takes rate
// and window away.
type changeBody struct {
	Concurrency *int            `json:"concurrency"`
	Rate        json.RawMessage `json:"rate"`
	MaxFailure  *float64        `json:"max_failure"`
	Window      json.RawMessage `json:"window"`
	EndAt       *string         `json:"end_at"`
	Notes       *string         `json:"notes"`
	Reason      string          `json:"reason"`
}

func (b *changeBody) parse() (c rollout.Change, err error) {
	c = rollout.Change{Concurrency: b.Concurrency, MaxFailure: b.MaxFailure, Notes: b.Notes}
	if len(b.Rate) > 0 {
		var rate *float64
		if json.Unmarshal(b.Rate, &rate) != nil {
			return c, invalidField("rate", "must be a number, or null for none")
		}
		interval, err := parseRate(rate)
		if err != nil {
			return c, err
		}
		c.Interval = &interval
	}
	if len(b.Window) > 0 {
		var window *windowBody
		if err := decodeJSON(b.Window, &window); err != nil {
			if p := asProblem(err); p == nil || p.Field == "" {
				err = invalidField("window", "must be an object, or null for always")
			}
			return c, err
		}
		w, err := window.parse()
		if err != nil {
			return c, err
		}
		c.Window = &w
	}
	if b.EndAt != nil {
		end, err := parseInstant(b.EndAt, "end_at")
		if err != nil {
			return c, err
		}
		c.EndAt = &end
	}
	return c, nil
}
