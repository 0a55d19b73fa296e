// Package eventjson writes events as JSON, in the form that package httpapi documents.
package eventjson

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/otago-iot/otago/store"
)

// Append appends a line of the journal, and the progress of its update. It does not use package
// json, which takes four times as long. It fails for a time that has no form in JSON.
func Append(b []byte, e *store.Event, p store.Progress) ([]byte, error) {
	b = strconv.AppendUint(append(b, `{"seq":`...), e.Seq, 10)
	b = appendMember(b, "update", e.Update)
	b = appendMember(b, "endpoint", e.Endpoint)
	b, err := e.Time.AppendText(append(b, `,"time":"`...))
	if err != nil {
		return nil, err
	}
	b = appendMember(append(b, '"'), "event", e.Name)
	b = appendMember(b, "detail", e.Detail)
	b = appendMember(b, "phase", string(e.Phase))
	b = appendMember(b, "state", e.State.String())
	b = strconv.AppendInt(append(b, `,"result":{"code":`...), int64(e.Result), 10)
	b = appendMember(b, "name", e.Result.String())
	b = appendMember(append(b, '}'), "outcome", string(e.Outcome))
	if p != (store.Progress{}) { // absent in old records
		b = strconv.AppendInt(append(b, `,"progress":{"bytes":`...), p.Bytes, 10)
		b = strconv.AppendInt(append(b, `,"total":`...), p.Total, 10)
		b = append(b, '}')
	}
	return append(b, '}'), nil
}

// appendMember appends a comma, and a member whose name needs no escapes.
func appendMember(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	for i := range len(value) {
		if escaped[value[i]] {
			text, _ := json.Marshal(value) // a string has no error
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), value...), '"')
}

// escaped has the bytes that package json escapes, or that may be part of what it escapes.
var escaped = func() (set [256]bool) {
	for c := range set {
		set[c] = c < ' ' || c > '~' || strings.ContainsRune(`"\<>&`, rune(c))
	}
	return set
}()
