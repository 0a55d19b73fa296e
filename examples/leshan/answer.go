package leshan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// response is the answer of a device, with its members in Leshan's order.
type response struct {
	Status      string `json:"status"`
	Valid       bool   `json:"valid"`
	Success     bool   `json:"success"`
	Failure     bool   `json:"failure"`
	Content     any    `json:"content,omitempty"`
	ObjectLinks any    `json:"objectLinks,omitempty"`
	Location    string `json:"location,omitempty"`
	Message     string `json:"errormessage,omitempty"`
}

// success is the answer to an operation that a device has carried out.
func success(status string) response {
	return response{Status: status, Valid: true, Success: true}
}

const (
	statusCreated = "CREATED(201)"
	statusDeleted = "DELETED(202)"
	statusChanged = "CHANGED(204)"
	statusContent = "CONTENT(205)"
)

// codeNames are the codes that Leshan has names for.
var codeNames = map[lwm2m.ResponseCode]string{
	lwm2m.CodeBadRequest: "BAD_REQUEST", lwm2m.CodeUnauthorized: "UNAUTHORIZED", lwm2m.CodeForbidden: "FORBIDDEN",
	lwm2m.CodeNotFound: "NOT_FOUND", lwm2m.CodeMethodNotAllowed: "METHOD_NOT_ALLOWED", lwm2m.CodeNotAcceptable: "NOT_ACCEPTABLE",
	lwm2m.CodeIncomplete: "REQUEST_ENTITY_INCOMPLETE", lwm2m.CodePreconditionFailed: "PRECONDITION_FAILED",
	lwm2m.CodeTooLarge: "REQUEST_ENTITY_TOO_LARGE", lwm2m.CodeUnsupportedFormat: "UNSUPPORTED_CONTENT_FORMAT",
	lwm2m.CodeInternal: "INTERNAL_SERVER_ERROR",
}

// validCodes are the codes that each answer may have beside 4.00, 4.01, 4.04, 4.05 and 5.00.
var validCodes = map[lwm2m.Operation][]lwm2m.ResponseCode{
	lwm2m.OpWrite:            {lwm2m.CodeIncomplete, lwm2m.CodeTooLarge, lwm2m.CodeUnsupportedFormat},
	lwm2m.OpWritePartial:     {lwm2m.CodeIncomplete, lwm2m.CodeTooLarge, lwm2m.CodeUnsupportedFormat},
	lwm2m.OpRead:             {lwm2m.CodeNotAcceptable},
	lwm2m.OpObserve:          {lwm2m.CodeNotAcceptable},
	lwm2m.OpReadComposite:    {lwm2m.CodeNotAcceptable, lwm2m.CodeUnsupportedFormat},
	lwm2m.OpObserveComposite: {lwm2m.CodeUnsupportedFormat},
	lwm2m.OpWriteComposite:   {lwm2m.CodeNotAcceptable},
	lwm2m.OpCreate:           {lwm2m.CodeUnsupportedFormat},
}

// failure returns the answer for a request that a device has refused or not answered. no is the
// first word of the text for an endpoint that is not registered.
func (c call) failure(op lwm2m.Operation, err error, no string) reply {
	var refused *lwm2m.ResponseError
	switch {
	case errors.As(err, &refused):
		return reply{status: http.StatusOK, json: refusal(op, refused)}
	case errors.Is(err, lwm2m.ErrNotRegistered):
		return c.unregistered(no)
	case errors.Is(err, lwm2m.ErrAsleep):
		return invalidRequest("The destination client is sleeping, request cannot be sent.")
	case errors.Is(err, lwm2m.ErrTimeout), errors.Is(err, lwm2m.ErrDeliveryUnknown), errors.Is(err, lwm2m.ErrUnreachable):
		return reply{status: http.StatusGatewayTimeout, text: "Request timeout"}
	case errors.Is(err, lwm2m.ErrMalformed):
		return reply{status: http.StatusInternalServerError, text: "Invalid Response: " + err.Error()}
	case errors.Is(err, lwm2m.ErrNotEncodable), errors.Is(err, lwm2m.ErrUnsupportedFormat), errors.Is(err, lwm2m.ErrPath):
		return invalidRequest("%v", err)
	case errors.Is(err, lwm2m.ErrClosed):
		return reply{status: http.StatusInternalServerError, text: "Request cancelled: " + err.Error()}
	}
	return unexpected(err)
}

func refusal(op lwm2m.Operation, e *lwm2m.ResponseError) response {
	name := codeNames[e.Code]
	valid := slices.Contains(validCodes[op], e.Code)
	switch e.Code {
	case lwm2m.CodeBadRequest, lwm2m.CodeUnauthorized, lwm2m.CodeNotFound, lwm2m.CodeMethodNotAllowed, lwm2m.CodeInternal:
		valid = true
	}
	if name == "" {
		name = "UNKNOWN"
	}
	return response{
		Status: fmt.Sprintf("%s(%d%02d)", name, e.Code>>5, e.Code&31), Valid: valid, Failure: true, Message: e.Diagnostic,
	}
}

// content returns the answer to a read of one path.
func content(path lwm2m.Path, entries []lwm2m.Entry) reply {
	a := success(statusContent)
	if n, ok := nodeOf(path, entries, anyValue); ok {
		a.Content = n
	}
	return reply{status: http.StatusOK, json: a}
}

// contents returns the answer to a read of several paths.
func contents(paths []lwm2m.Path, entries []lwm2m.Entry) reply {
	a := success(statusContent)
	nodes := map[string]node{}
	for _, p := range paths {
		if n, ok := nodeOf(p, entries, anyValue); ok {
			nodes[p.String()] = n
		}
	}
	a.Content = nodes
	return reply{status: http.StatusOK, json: a}
}

// client is a registration, with its members in Leshan's order.
type client struct {
	Endpoint   string              `json:"endpoint"`
	ID         string              `json:"registrationId"`
	Date       int64               `json:"registrationDate"`
	Updated    int64               `json:"lastUpdate"`
	Address    string              `json:"address"`
	SMS        string              `json:"smsNumber,omitempty"`
	Version    string              `json:"lwM2mVersion"`
	Lifetime   int64               `json:"lifetime"`
	Binding    string              `json:"bindingMode"`
	Root       string              `json:"rootPath"`
	Links      []objectLinks       `json:"objectLinks"`
	Secure     bool                `json:"secure"`
	Attributes map[string]string   `json:"additionalRegistrationAttributes"`
	Queue      bool                `json:"queuemode"`
	Instances  map[uint16][]uint16 `json:"availableInstances"`
	Sleeping   *bool               `json:"sleeping,omitempty"`
}

// awakeTime is how long a device in queue mode is taken to be awake after its last message, as in
// [lwm2m.ServerConfig.AwakeTime].
const awakeTime = 93 * time.Second

func clientOf(r lwm2m.Registration, now time.Time) client {
	c := client{
		Endpoint: r.Endpoint, ID: r.ID, Date: r.Registered.UnixMilli(), Updated: r.Updated.UnixMilli(),
		Address: r.Address.String(), SMS: r.SMS, Version: r.Version.String(), Lifetime: int64(r.Lifetime / time.Second),
		Binding: r.Binding, Root: "/", Links: parseLinks(r.Links),
		Secure:     r.Transport == lwm2m.TransportDTLS || r.Transport == lwm2m.TransportTLS,
		Attributes: attributesOf(r), Queue: r.Queue, Instances: map[uint16][]uint16{},
	}
	objects := r.Objects()
	if objects.Root != "" {
		c.Root = strings.TrimSuffix(objects.Root, "/") + "/"
	}
	for _, o := range objects.Objects {
		if len(o.Instances) > 0 {
			c.Instances[o.ID] = o.Instances
		}
	}
	if r.Queue {
		sleeping := now.Sub(r.LastSeen) > awakeTime
		c.Sleeping = &sleeping
		if r.Version == (lwm2m.Version{Major: 1}) && !strings.Contains(r.Binding, "Q") {
			c.Binding += "Q" // version 1.0 has the mode among the letters
		}
	}
	return c
}

// attributesOf returns the parameters of the Register that LwM2M does not define.
func attributesOf(r lwm2m.Registration) map[string]string {
	list := map[string]string{}
	values, _ := url.ParseQuery(r.Attributes) // the server has made it
	for name, value := range values {
		list[name] = value[0]
	}
	return list
}

// objectLinks is a link and its attributes, which keep their order.
type objectLinks struct {
	URL        string         `json:"url"`
	Attributes linkAttributes `json:"attributes"`
}

type linkAttributes [][2]string

// MarshalJSON returns an object with the attributes in their order.
func (l linkAttributes) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, a := range l {
		if i > 0 {
			out.WriteByte(',')
		}
		name, err := json.Marshal(a[0])
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(a[1])
		if err != nil {
			return nil, err
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// parseLinks reads a list in the CoRE link format, which the server has accepted before. Leshan
// shows values with their quotes.
func parseLinks(list string) []objectLinks {
	links := []objectLinks{}
	for _, text := range splitUnquoted(list, ',') {
		parts := splitUnquoted(text, ';')
		link := objectLinks{URL: strings.Trim(strings.TrimSpace(parts[0]), "<>")}
		for _, a := range parts[1:] {
			name, value, _ := strings.Cut(a, "=")
			link.Attributes = append(link.Attributes, [2]string{name, value})
		}
		links = append(links, link)
	}
	return links
}

// splitUnquoted splits s at each separator outside of quotes and of angle brackets.
func splitUnquoted(s string, separator byte) []string {
	var list []string
	quoted, inURL, start := false, false, 0
	for i := range len(s) {
		switch {
		case s[i] == '"' && (i == 0 || s[i-1] != '\\'):
			quoted = !quoted
		case quoted:
		case s[i] == '<':
			inURL = true
		case s[i] == '>':
			inURL = false
		case s[i] == separator && !inURL:
			list = append(list, s[start:i])
			start = i + 1
		}
	}
	if s == "" {
		return nil
	}
	return append(list, s[start:])
}

// discovered returns the links that a Discover found.
func discovered(found []lwm2m.Discovered) []objectLinks {
	links := make([]objectLinks, 0, len(found))
	for _, d := range found {
		link := objectLinks{URL: d.Path.String()}
		add := func(name, value string) { link.Attributes = append(link.Attributes, [2]string{name, value}) }
		if d.Version != (lwm2m.Version{}) {
			add("ver", d.Version.String())
		}
		if d.Dimension >= 0 {
			add("dim", strconv.Itoa(d.Dimension))
		}
		for _, a := range attributes {
			if v, ok := d.Attributes.Get(a); ok {
				add(a.String(), strconv.FormatFloat(v, 'f', -1, 64))
			}
		}
		links = append(links, link)
	}
	return links
}

// attributes are all notification attributes.
var attributes = []lwm2m.Attribute{
	lwm2m.AttributePMin, lwm2m.AttributePMax, lwm2m.AttributeGT, lwm2m.AttributeLT, lwm2m.AttributeST,
	lwm2m.AttributeEPMin, lwm2m.AttributeEPMax, lwm2m.AttributeEdge, lwm2m.AttributeCon, lwm2m.AttributeHQMax,
}
