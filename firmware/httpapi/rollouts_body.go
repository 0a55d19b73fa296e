package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
	ID          string          `json:"id"`
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

// decode decodes the body. Only the endpoints may be more than maxJSON bytes.
func (b *rolloutRequest) decode(data []byte) error {
	if err := checkText(data); err != nil {
		return err
	}
	targets, rest, err := split(data, "targets")
	if err != nil {
		return err
	}
	if err := decodeJSON(rest, b); err != nil || targets == nil {
		return err
	}
	endpoints, rest, err := split(targets, "endpoints")
	if err != nil {
		return err
	}
	if err := decodeJSON(rest, &b.targets); err != nil || endpoints == nil {
		return err
	}
	return b.targets.endpoints.decode(endpoints, "targets.endpoints")
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
			return nil, nil, jsonProblem(err)
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
	if _, err := decoder.Token(); err != nil { // the brace at the end
		return nil, nil, jsonProblem(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, followed()
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

// endpointList reads at most maxTargets endpoints: a longer list costs no memory.
type endpointList []string

func (l *endpointList) UnmarshalJSON(data []byte) error { return l.decode(data, "endpoints") }

func (l *endpointList) decode(data []byte, field string) error {
	if string(data) == "null" {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('[') {
		return invalidField(field, "must be a list of endpoints")
	}
	list := endpointList{}
	for decoder.More() {
		if len(list) == maxTargets {
			return invalidField(field, fmt.Sprintf("are more than %d: select the devices, or add the rest later", maxTargets))
		}
		token, err := decoder.Token()
		endpoint, ok := token.(string)
		if err != nil || !ok {
			return invalidField(field, fmt.Sprintf("must be a list of endpoints; item %d is none", len(list)))
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
		if problem := checkEndpoint(endpoint); problem != "" {
			return invalidField(fmt.Sprintf("%s[%d]", field, i), problem)
		}
		if first, twice := seen[endpoint]; twice {
			return invalidField(fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("is the same endpoint as %s[%d]", field, first))
		}
		seen[endpoint] = i
	}
	return nil
}

// parse returns the request. What it does not check, the manager of rollouts does.
func (b *rolloutRequest) parse() (q rollout.Request, err error) {
	q = rollout.Request{
		ID: b.ID, Name: b.Name, Image: b.Image, MaxFailure: b.MaxFailure, Downgrade: b.Downgrade, Notes: b.Notes, Start: b.Start,
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
