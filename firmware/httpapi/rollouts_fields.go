package httpapi

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

// windowBody is when devices install, in bodies and in answers.
type windowBody struct {
	Days     []string `json:"days,omitempty"`
	From     string   `json:"from"`
	To       string   `json:"to"`
	Zone     string   `json:"zone"`
	Fallback string   `json:"fallback_zone,omitempty"`
	Covers   string   `json:"covers"`
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
	if !(*rate >= 0.0001 && *rate <= maxRate) {
		return 0, invalidField("rate", fmt.Sprintf("must be admissions a minute, from 0.0001 to %d", maxRate))
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
		if d, err := time.ParseDuration(text); err == nil && d == 0 && !strings.ContainsAny(text, "+-") {
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
