package httpapi

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const eventStream = "text/event-stream"

// wantsStream reports whether a client that may have JSON or an event stream wants the stream: its
// Accept names text/event-stream, and prefers nothing that JSON matches (RFC 9110 section 12.5.1).
// A weight that is none counts as 0.
func wantsStream(r *http.Request) bool {
	var stream, json float64
	specific := -1
	for element := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		name, parameters, err := mime.ParseMediaType(element)
		if err != nil {
			continue
		}
		weight := 1.0
		if text, ok := parameters["q"]; ok {
			if weight, err = strconv.ParseFloat(text, 64); err != nil || !(weight >= 0 && weight <= 1) {
				weight = 0
			}
		}
		if name == eventStream {
			stream = weight
		}
		for i, of := range [...]string{"*/*", "application/*", applicationJSON} {
			if name == of && i >= specific {
				specific, json = i, weight
			}
		}
	}
	return stream > 0 && stream >= json
}
