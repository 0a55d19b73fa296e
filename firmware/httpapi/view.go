package httpapi

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// The types of this file are the JSON that clients get. They are separate from the stored records,
// so that each can change alone.

// instant truncates a time to the precision of the stores, so that clients can compare times.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// A damagedView stands for a record that cannot be read.
type damagedView struct {
	ID       string `json:"id,omitempty"`       // of an update or image
	Endpoint string `json:"endpoint,omitempty"` // of a device
	Seq      uint64 `json:"seq,omitempty"`      // of a line of a journal
	Damaged  string `json:"damaged"`            // why
}

func viewDamaged(d *store.DamagedError) damagedView {
	v := damagedView{Damaged: clip(d.Err.Error(), maxReason)}
	switch d.Kind {
	case store.KindDevice:
		v.Endpoint = d.Key
	case store.KindEvent:
		v.Seq, _ = strconv.ParseUint(d.Key, 10, 64)
	default:
		v.ID = d.Key
	}
	return v
}

const maxReason = 200 // bytes of why a record cannot be read

type imageView struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Created time.Time `json:"created"`

	Compatible firmware.Compatible `json:"compatible"` // with what devices; {} for all
}

func viewImage(i firmware.Image) imageView {
	return imageView{
		ID: i.ID, Name: i.Name, Version: i.Version, Size: i.Size, SHA256: i.SHA256, Created: i.Created, Compatible: i.Compatible,
	}
}

type resultView struct {
	Code int    `json:"code"`
	Name string `json:"name"`
}

func viewResult(r fsm.Result) resultView { return resultView{Code: int(r), Name: r.String()} }

type updateView struct {
	ID         string       `json:"id"`
	Endpoint   string       `json:"endpoint"`
	Image      string       `json:"image"`
	Labels     labels       `json:"labels"`
	Version    string       `json:"version"`     // of the image
	OldVersion string       `json:"old_version"` // that the device ran before, if known
	Phase      string       `json:"phase"`
	State      string       `json:"state"`
	Result     resultView   `json:"result"`
	Reported   *resultView  `json:"reported_result"` // the last that the device reported, or null
	Outcome    string       `json:"outcome"`
	Reason     string       `json:"reason"`
	MayStill   *string      `json:"may_still"` // null unless cancelled or timed out
	Later      *laterView   `json:"later"`     // null unless the device showed another version later
	Progress   progressView `json:"progress"`
	WaitingFor *waitView    `json:"waiting_for"` // null once the update has ended
	Holds      []holdView   `json:"holds"`
	Attempt    int          `json:"attempt"`
	Delivery   string       `json:"delivery"` // of the attempt
	Protocol   string       `json:"protocol"` // of the attempt
	Deadline   time.Time    `json:"deadline"`
	Created    time.Time    `json:"created"`
	Updated    time.Time    `json:"updated"`
	Ended      *time.Time   `json:"ended"`            // null while it is active
	Journal    []any        `json:"journal,omitzero"` // lineView, or damagedView

	IfCancelled *cancelView `json:"if_cancelled,omitempty"` // of a single update that is active
}

// A cancelView says what a cancel would do.
type cancelView struct {
	MayStill string `json:"may_still"`
	Effect   string `json:"effect"` // a sentence
}

// viewCancel tries a cancel on a copy of an update.
func viewCancel(u firmware.Update) *cancelView {
	if !u.Machine.Active() {
		return nil
	}
	m, _ := u.Machine.Step(fsm.Observation{Kind: fsm.ObserveCancel, At: time.Now()})
	v := &cancelView{MayStill: string(m.MayStill)}
	switch m.MayStill {
	case fsm.MayStillNone:
		v.Effect = "the device installs nothing of this update, and runs on with what it has"
	case fsm.MayStillInstall:
		v.Effect = "the device installs it, or has agreed to: it may still change to " + m.Plan.Target
	default:
		v.Effect = "the device may still change to " + m.Plan.Target + ", or not: the server reads it once more, within a minute"
	}
	return v
}

// labels encodes nil as {}, not as null.
type labels map[string]string

func (l labels) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]string(l))
}

type progressView struct {
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
}

type laterView struct {
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
}

type waitView struct {
	Reason string    `json:"reason"`
	Whose  string    `json:"whose"`
	Until  time.Time `json:"until,omitzero"`
}

type holdView struct {
	Holder string     `json:"holder"`
	Reason string     `json:"reason"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until"` // null: until released
}

type lineView struct {
	Time   time.Time `json:"time"`
	Event  string    `json:"event"`
	Detail string    `json:"detail"`
}

func viewUpdate(u firmware.Update) updateView {
	m := u.Machine
	v := updateView{
		ID:         u.ID,
		Endpoint:   u.Endpoint,
		Image:      u.Image,
		Labels:     u.Labels,
		Version:    m.Plan.Target,
		OldVersion: m.OldVersion,
		Phase:      string(m.Phase),
		State:      m.State.String(),
		Result:     viewResult(m.Result),
		Outcome:    string(m.Outcome),
		Reason:     string(m.Reason),
		Progress:   progressView{Bytes: m.Bytes, Total: m.Plan.Size},
		Holds:      make([]holdView, len(m.Holds)),
		Attempt:    m.Attempt,
		Delivery:   string(m.Delivery),
		Protocol:   string(m.Protocol),
		Deadline:   instant(m.Deadline),
		Created:    u.Created,
		Updated:    instant(u.Changed),
	}
	if m.Reported != fsm.ResultDefault {
		v.Reported = new(viewResult(m.Reported))
	}
	if m.MayStill != "" {
		v.MayStill = new(string(m.MayStill))
	}
	if u.Later.Version != "" {
		v.Later = &laterView{Version: u.Later.Version, Time: instant(u.Later.Time)}
	}
	for i, h := range m.Holds {
		v.Holds[i] = holdView{Holder: h.Holder, Reason: h.Reason, Since: instant(h.Since)}
		if !h.Until.IsZero() {
			v.Holds[i].Until = new(instant(h.Until))
		}
	}
	if m.Active() {
		v.WaitingFor = &waitView{Reason: m.Wait.Reason, Whose: string(m.Wait.Whose), Until: instant(m.Wait.Until)}
	} else {
		v.Ended = new(instant(m.Ended))
	}
	return v
}
