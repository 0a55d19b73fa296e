package httpapi

import (
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/otago-iot/otago/store"
)

// page is one page of a list.
type page struct {
	Items []any  `json:"items"`
	Next  string `json:"next,omitempty"`
}

// An appender is an item that appends its JSON faster than package json does.
type appender interface{ appendJSON(b []byte) []byte }

// A pageBody is the JSON of a page.
type pageBody struct {
	text    []byte
	encoder *json.Encoder // appends to text
}

var pageBodies = sync.Pool{New: func() any {
	p := &pageBody{}
	p.encoder = json.NewEncoder(p)
	p.encoder.SetEscapeHTML(false)
	return p
}}

// maxPageKept is how long the memory of a page may be that is used again, in bytes.
const maxPageKept = 1 << 20

// Write implements io.Writer.
func (p *pageBody) Write(text []byte) (int, error) {
	p.text = append(p.text, text...)
	return len(text), nil
}

// add appends an item.
func (p *pageBody) add(item any) error {
	if a, ok := item.(appender); ok {
		p.text = append(a.appendJSON(p.text), ',')
		return nil
	}
	err := p.encoder.Encode(item)
	p.text[len(p.text)-1] = ',' // instead of its newline
	return err
}

// writePage sends the first limit records. records yields one more if there is a next page, or ends
// with store.ErrShort. A damaged record becomes an item too.
func writePage[R, V any](
	w http.ResponseWriter, limit int, kind string, records iter.Seq2[R, error], key func(R) string, view func(R) V,
) error {
	p := pageBodies.Get().(*pageBody)
	defer func() {
		if cap(p.text) <= maxPageKept {
			pageBodies.Put(p)
		}
	}()
	const begin = `{"items":[`
	p.text = append(p.text[:0], begin...)
	var next, last string
	var item V
	n := 0
	for record, err := range records {
		if errors.Is(err, store.ErrShort) {
			next = newCursor(kind, key(record))
			break
		}
		damaged, isDamaged := errors.AsType[*store.DamagedError](err)
		if err != nil && !isDamaged {
			return err
		}
		if n == limit {
			next = newCursor(kind, last)
			break
		}
		if n++; isDamaged {
			err = p.add(viewDamaged(damaged))
		} else {
			item = view(record)
			err = p.add(&item)
		}
		if err != nil {
			return err
		}
		last = key(record)
	}
	if n > 0 {
		p.text = p.text[:len(p.text)-1] // the last comma
	}
	p.text = append(p.text, ']')
	if next != "" {
		p.text = appendText(append(p.text, `,"next":`...), next)
	}
	p.text = append(p.text, "}\n"...)
	sendJSON(w, http.StatusOK, p.text)
	return nil
}

// fitting yields those of a page of store.MaxSkipped records that fit a condition of which the
// store knows nothing. If there may be more records it ends with store.ErrShort.
func fitting[R any](records iter.Seq2[R, error], fits func(R) bool) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		n := 0
		var last R
		for r, err := range records {
			if (err != nil || fits(r)) && !yield(r, err) {
				return
			}
			last = r
			n++
		}
		if n >= store.MaxSkipped {
			yield(last, store.ErrShort)
		}
	}
}

// appendJSON implements appender. A page of a thousand updates takes a third of the time that it
// takes package json.
func (u *updateView) appendJSON(b []byte) []byte {
	text := func(name, value string) { b = appendText(append(b, name...), value) }
	number := func(name string, value int64) { b = strconv.AppendInt(append(b, name...), value, 10) }
	text(`{"id":`, u.ID)
	text(`,"endpoint":`, u.Endpoint)
	text(`,"image":`, u.Image)
	b = appendAny(append(b, `,"labels":`...), u.Labels, len(u.Labels) > 0, "{}")
	text(`,"version":`, u.Version)
	text(`,"old_version":`, u.OldVersion)
	text(`,"phase":`, u.Phase)
	text(`,"state":`, u.State)
	b = u.Result.append(append(b, `,"result":`...))
	b = append(b, `,"reported_result":`...)
	if u.Reported != nil {
		b = u.Reported.append(b)
	} else {
		b = append(b, null...)
	}
	text(`,"outcome":`, u.Outcome)
	text(`,"reason":`, u.Reason)
	b = appendAny(append(b, `,"may_still":`...), u.MayStill, u.MayStill != nil, null)
	b = appendAny(append(b, `,"later":`...), u.Later, u.Later != nil, null)
	number(`,"progress":{"bytes":`, u.Progress.Bytes)
	number(`,"total":`, u.Progress.Total)
	b = appendAny(append(b, `},"waiting_for":`...), u.WaitingFor, u.WaitingFor != nil, null)
	b = appendAny(append(b, `,"holds":`...), u.Holds, len(u.Holds) > 0, "[]")
	number(`,"attempt":`, int64(u.Attempt))
	text(`,"delivery":`, u.Delivery)
	text(`,"protocol":`, u.Protocol)
	b = appendTime(append(b, `,"deadline":`...), u.Deadline)
	b = appendTime(append(b, `,"created":`...), u.Created)
	b = appendTime(append(b, `,"updated":`...), u.Updated)
	b = append(b, `,"ended":`...)
	if u.Ended != nil {
		b = appendTime(b, *u.Ended)
	} else {
		b = append(b, null...)
	}
	if u.Journal != nil {
		b = appendAny(append(b, `,"journal":`...), u.Journal, true, "")
	}
	if u.IfCancelled != nil {
		b = appendAny(append(b, `,"if_cancelled":`...), u.IfCancelled, true, "")
	}
	return append(b, '}')
}

func (r resultView) append(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"code":`...), int64(r.Code), 10)
	return append(appendText(append(b, `,"name":`...), r.Name), '}')
}

const null = "null"

// appendAny appends what marshal returns for v if it is set, and else a text.
func appendAny(b []byte, v any, set bool, otherwise string) []byte {
	if !set {
		return append(b, otherwise...)
	}
	text, err := marshal(v)
	if err != nil {
		return append(b, null...) // no view has such a value
	}
	return append(b, text[:len(text)-1]...)
}

// appendTime appends a time. A store keeps none without a form in JSON.
func appendTime(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendAny(b, s, true, "")
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
