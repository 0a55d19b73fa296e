package lwm2m

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/otago-iot/otago/internal/coap"
)

// A TraceEntry is a message of a [Trace], or something else that has happened to the device.
//
// It shows no secret that the server can recognize: of texts with a scheme or a path, such as
// Package URIs, parts that may be random, user names and queries are replaced by "[secret]", and so
// are such segments of Uri-Path and Location-Path. Payloads are left out that belong to objects
// with keys (0, 11, 12, 21), and if they cannot be decoded those that may hold a part of a Package
// URI, whose path is not known, or in which JSON about several objects may have a key.
type TraceEntry struct {
	N    int // number, from 1
	Time time.Time
	In   bool // it comes from the device
	// Kind is "message"; "retransmission": the server sends it again, unasked or because a
	// duplicate came; "duplicate": the device sends it again; "dropped": the server had no room for
	// the request, or could not send the message, which is an earlier entry too, or what has come
	// is no message, and the entry has the header at most; "moved": the device comes from another
	// address; "handshake": a handshake of DTLS or TLS failed; "closed": the association or
	// connection has ended. The last three are no messages.
	Kind          string
	Transport     Transport
	Remote, Local netip.AddrPort // of the device and of the server; Local may be invalid

	Type      string       // CON, NON, ACK, RST; "" over TCP and TLS
	Code      ResponseCode // also of a request, such as 0.02
	Name      string       // of the code, such as POST or Content; "" if it has none
	MessageID uint16       // 0 over TCP and TLS
	Token     []byte
	Options   []TraceOption
	Size      int // of the whole message, in bytes

	Format  string // media type of the payload; "" if the message does not say
	Payload string // as text: decoded values, text, or hexadecimal digits
	Cut     bool   // Payload shows only the beginning

	Note string // a sentence for people; "" for none
}

// A TraceOption is an option of a message.
type TraceOption struct {
	Name  string // such as Uri-Path, or the number of an option that has no name
	Value string
}

// The kinds of entries.
const (
	traceMoved = coap.TraceDropped + 1 + iota
	traceHandshake
	traceClosed
)

var traceKinds = [...]string{
	coap.TraceMessage: "message", coap.TraceRetransmission: "retransmission", coap.TraceDuplicate: "duplicate", coap.TraceDropped: "dropped",
	traceMoved: "moved", traceHandshake: "handshake", traceClosed: "closed",
}

// A tracedMessage is what a trace keeps of a message.
type tracedMessage struct {
	time          time.Time
	in            bool
	kind          coap.TraceKind
	bare          bool // it is no message
	transport     Transport
	remote, local netip.AddrPort
	typ           uint8
	code          coap.Code
	mid           uint16
	token         string
	options       coap.Options
	payload       []byte
	whole, size   int // of the payload and of the message, in bytes
	path          tracedPath
	note          string
}

// A tracedPath is what a request is about.
type tracedPath struct {
	known bool
	other bool // a path that is none of LwM2M's objects, such as /rd
	path  Path
}

// copyOf copies what a trace keeps of a message, and finds out what it is about. traces.mu is held.
func (t *Trace) copyOf(m *coap.TracedMessage) *tracedMessage {
	kept := &tracedMessage{
		in: m.In, kind: m.Kind, transport: Transport(m.Peer.Transport), remote: m.Remote, local: m.Local, typ: m.Type, code: m.Code,
		mid: m.MessageID, token: string(m.Token), whole: len(m.Payload), size: m.Size, options: make(coap.Options, len(m.Options)),
		payload: slices.Clone(m.Payload[:min(len(m.Payload), tracePayload)]),
	}
	for i, o := range m.Options {
		kept.options[i] = coap.Option{ID: o.ID, Value: slices.Clone(o.Value)}
	}
	if m.Err != nil {
		why := strings.TrimPrefix(m.Err.Error(), "coap: ")
		kept.note = clipped("It was not sent: "+why+".", traceNote)
		if m.In {
			kept.note, kept.bare = clipped("The server dropped what the device has sent, as it is no message: "+why+".", traceNote), m.Size == 0
			return kept
		}
	}
	switch class := m.Code >> 5; {
	case class == 0 && m.Code != coap.Empty:
		kept.path = pathOf(m.Options, m.In)
		same := func(a askedPath) bool { return a.token == kept.token && a.in == m.In }
		t.asked = slices.DeleteFunc(t.asked, same)
		if len(t.asked) == traceAsked {
			t.asked = slices.Delete(t.asked, 0, 1)
		}
		t.asked = append(t.asked, askedPath{kept.token, m.In, kept.path})
	case class >= 2 && class <= 5:
		for _, a := range t.asked {
			if a.token == kept.token && a.in != m.In {
				kept.path = a.path
			}
		}
	}
	return kept
}

// pathOf returns what the Uri-Path options of a request name: of one from the device nothing of its
// objects. A device may have its objects below another path.
func pathOf(options coap.Options, in bool) tracedPath {
	segments := coap.Strings(options, coap.URIPath)
	for i := range segments {
		if in {
			break
		}
		if p, err := ParsePath(strings.Join(segments[i:], "/")); err == nil {
			return tracedPath{known: true, path: p}
		}
	}
	return tracedPath{known: true, other: in || len(segments) > 0}
}

const (
	traceText = 1024 // bytes of a payload as text
	traceHex  = 64   // bytes of a payload in hexadecimal digits
	traceNote = 300  // bytes of a note
)

// entry returns a message as programs and people see it.
func (t *Trace) entry(n int, m *tracedMessage) TraceEntry {
	e := TraceEntry{
		N: n, Time: m.time, In: m.in, Kind: traceKinds[m.kind], Transport: m.transport, Remote: m.remote, Local: m.local, Note: m.note,
	}
	if m.bare {
		return e
	}
	e.Code, e.Name, e.MessageID, e.Token, e.Size = ResponseCode(m.code), codeNames[m.code], m.mid, []byte(m.token), m.size
	if m.transport == TransportUDP || m.transport == TransportDTLS {
		e.Type = [...]string{"CON", "NON", "ACK", "RST"}[m.typ&3]
	}
	if m.code>>5 == 7 {
		return e // the options of signals have numbers of their own
	}
	for _, o := range m.options {
		e.Options = append(e.Options, TraceOption{optionName(o.ID), optionText(o)})
	}
	f, hasFormat := coap.Uint(m.options, coap.ContentFormat)
	if hasFormat {
		e.Format = ContentFormat(f).String()
	}
	if m.whole > 0 {
		var note string
		e.Payload, e.Cut, note = t.payloadText(m, ContentFormat(f), hasFormat)
		e.Note = strings.TrimSpace(e.Note + " " + note)
	}
	return e
}

// secretObjects hold keys and passwords; uriObjects have a Package URI beside other resources.
var (
	secretObjects = []uint16{0, 11, 12, 21}
	uriObjects    = []uint16{5, 33629}
)

// payloadText returns a payload as text, whether it is cut, and a note.
func (t *Trace) payloadText(m *tracedMessage, f ContentFormat, hasFormat bool) (text string, cut bool, note string) {
	p := m.path
	object := !p.other && p.path.Len() > 0
	if object && slices.Contains(secretObjects, p.path.Object()) {
		return "", false, "The payload is not shown: object " + strconv.Itoa(int(p.path.Object())) + " can hold keys."
	}
	part := m.whole > len(m.payload) || isPart(m.options)
	words, readable := readableText(m.payload, part)
	shown := func() (string, bool, string) {
		text, cut := cutText(maskText(words))
		return text, cut || m.whole > len(m.payload), ""
	}
	plain := hasFormat && f.canonical() == FormatText
	switch {
	case !readable:
	case hasFormat && f == FormatLink, // has no values
		!hasFormat && m.code>>5 >= 4: // the words of an error (RFC 7252, section 5.5.2)
		return shown()
	case part || !p.known:
	case plain, !hasFormat && (!object || p.path.Len() > 2): // else it may be TLV, as in old versions
		return shown()
	}
	if !part && hasFormat && (p.known || selfDescribing(f)) {
		if entries, err := DecodePayload(f, p.path, m.payload, t.models); err == nil {
			text, cut = cutText(entriesText(entries))
			return text, cut, ""
		}
	}
	json := hasFormat && isJSON(f)
	switch image := NewPath(5, 0, 0); {
	case !p.known:
		return "", false, "The payload is not shown: the request came before the trace, so that it is not known what this is about."
	case object && slices.Contains(uriObjects, p.path.Object()) && !image.Contains(p.path):
		return "", false, "The payload is not shown: it may hold a part of a Package URI."
	case json && !object && (part || namesSecrets.MatchString(strings.ReplaceAll(words, `\/`, "/"))):
		return "", false, "The payload is not shown: it may hold keys, and cannot be decoded."
	case readable && (plain || json):
		return shown()
	}
	n := min(len(m.payload), traceHex)
	return hex.EncodeToString(m.payload[:n]), n < m.whole, ""
}

// readableText returns a payload, and whether it is text. The characters at the ends of a part may
// be cut through: it is without those.
func readableText(b []byte, part bool) (text string, readable bool) {
	for n := 0; part && n < utf8.UTFMax-1 && len(b) > 0 && !utf8.RuneStart(b[0]); n++ {
		b = b[1:]
	}
	for n := 1; part && n < utf8.UTFMax && n <= len(b); n++ {
		if end := len(b) - n; utf8.RuneStart(b[end]) {
			if !utf8.FullRune(b[end:]) {
				b = b[:end]
			}
			break
		}
	}
	return string(b), printable(b)
}

// isJSON reports whether a format is JSON, with values or others.
func isJSON(f ContentFormat) bool {
	switch f.canonical() {
	case formatAnyJSON, FormatJSON, FormatSenMLJSON, formatSenMLETCHJSON:
		return true
	}
	return false
}

// formatAnyJSON is application/json.
const formatAnyJSON ContentFormat = 50

// namesSecrets matches JSON that names a path of an object with keys, or escapes what it names.
var namesSecrets = regexp.MustCompile(`"/?([^"/0-9][^"/]*/)*(0|11|12|21)/|"bn"\s*:\s*"/?([^"/0-9][^"/]*/)*(0|11|12|21)"|\\u`)

// isPart reports whether a message has a block of a body that has several.
func isPart(options coap.Options) bool {
	for _, id := range []coap.OptionID{coap.Block1, coap.Block2} {
		if v, ok := coap.Uint(options, id); ok && v>>3 > 0 {
			return true // its number is not 0, or more follow
		}
	}
	return false
}

// selfDescribing reports whether a format names the path of each value.
func selfDescribing(f ContentFormat) bool {
	switch f.canonical() {
	case FormatSenMLJSON, FormatSenMLCBOR, formatSenMLETCHJSON, formatSenMLETCHCBOR, FormatLwM2MCBOR:
		return true
	}
	return false
}

func printable(b []byte) bool {
	return utf8.Valid(b) && strings.IndexFunc(string(b), func(r rune) bool { return !unicode.IsPrint(r) && !unicode.IsSpace(r) }) < 0
}

// entriesText returns values as /3/0/9=95, one in a line.
func entriesText(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		if b.Len() > traceText {
			break
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Path.String() + "=")
		switch {
		case e.Path.Len() > 0 && slices.Contains(secretObjects, e.Path.Object()):
			b.WriteString(secret)
		case e.Value.Type() == TypeOpaque:
			raw, _ := e.Value.Bytes()
			b.WriteString(hex.EncodeToString(raw[:min(len(raw), traceHex)]))
		case e.Value.Type() != TypeNone:
			b.WriteString(maskText(e.Value.String()))
		}
	}
	return b.String()
}

// cutText bounds a text, and makes it valid UTF-8 without control characters.
func cutText(s string) (text string, cut bool) {
	if cut = len(s) > traceText; cut {
		s = s[:traceText]
	}
	return strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "")), cut
}

func clipped(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "..."
	}
	return s
}

const secret = "[secret]"

// minSecret is the least length of a part of a path that may be random: a token of 128 bits has 22
// characters, a location of a registration fewer.
const minSecret = 16

// maskSegment replaces a segment of a path that may be random.
func maskSegment(s string) string {
	run := 0
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			if run++; run >= minSecret {
				return secret
			}
		} else {
			run = 0
		}
	}
	return s
}

// maskText replaces what may be secret in words that have a slash: user names and passwords, random
// segments, and queries.
func maskText(s string) string {
	if !strings.ContainsAny(s, "/\\") {
		return s
	}
	s = strings.ReplaceAll(s, `\/`, "/")
	var b strings.Builder
	for len(s) > 0 {
		end := strings.IndexAny(s, " \t\r\n\"<>") // which no URI has
		if end < 0 {
			end = len(s)
		}
		b.WriteString(maskWord(s[:end]))
		if end < len(s) {
			b.WriteByte(s[end])
			end++
		}
		s = s[end:]
	}
	return b.String()
}

// maskWord is maskText for a URI or a path.
func maskWord(s string) string {
	if !strings.Contains(s, "/") {
		return s
	}
	s, _, query := strings.Cut(s, "?")
	scheme, rest, absolute := strings.Cut(s, "://")
	if !absolute {
		scheme, rest = "", s
	}
	segments := strings.Split(rest, "/")
	for i, segment := range segments {
		if absolute && i == 0 { // the host
			if at := strings.LastIndexByte(segment, '@'); at >= 0 {
				segments[i] = secret + segment[at:]
			}
			continue
		}
		segments[i] = maskSegment(segment)
	}
	s = strings.Join(segments, "/")
	if absolute {
		s = scheme + "://" + s
	}
	if query {
		s += "?" + secret
	}
	return s
}

// openQueries are the names of queries whose values are no secrets: those of LwM2M.
var openQueries = []string{"ep", "lt", "lwm2m", "b", "Q", "sms", "pid", "pmin", "pmax", "gt", "lt", "st", "epmin", "epmax", "edge", "con", "hqmax"}

// optionText returns the value of an option as text.
func optionText(o coap.Option) string {
	switch o.ID {
	case coap.URIPath, coap.LocationPath:
		text, _ := cutText(maskSegment(string(o.Value)))
		return text
	case coap.URIQuery, coap.LocationQuery:
		name, value, found := strings.Cut(string(o.Value), "=")
		if found && !slices.Contains(openQueries, name) {
			value = maskSegment(maskText(value))
		}
		if found {
			name += "="
		}
		text, _ := cutText(name + value)
		return text
	case coap.URIHost, coap.ProxyScheme, coap.ProxyURI:
		text, _ := cutText(maskText(string(o.Value)))
		return text
	case coap.ContentFormat, coap.Accept:
		if v, ok := coap.Uint(coap.Options{o}, o.ID); ok {
			return ContentFormat(v).String()
		}
	case coap.Block1, coap.Block2:
		if v, ok := coap.Uint(coap.Options{o}, o.ID); ok {
			more := "0"
			if v&8 != 0 {
				more = "1"
			}
			return strconv.Itoa(int(v>>4)) + "/" + more + "/" + strconv.Itoa(16<<min(v&7, 6)) // as in RFC 7959, section 2.2
		}
	case coap.Observe, coap.URIPort, coap.MaxAge, coap.Size1, coap.Size2, coap.NoResponse:
		if v, ok := coap.Uint(coap.Options{o}, o.ID); ok {
			return strconv.FormatUint(uint64(v), 10)
		}
	}
	return hex.EncodeToString(o.Value)
}

// optionName returns the name of an option in the registry of RFC 7252, or its number.
func optionName(id coap.OptionID) string {
	if name, ok := optionNames[id]; ok {
		return name
	}
	return strconv.Itoa(int(id))
}

var optionNames = map[coap.OptionID]string{
	coap.IfMatch: "If-Match", coap.URIHost: "Uri-Host", coap.ETag: "ETag", coap.IfNoneMatch: "If-None-Match", coap.Observe: "Observe",
	coap.URIPort: "Uri-Port", coap.LocationPath: "Location-Path", coap.URIPath: "Uri-Path", coap.ContentFormat: "Content-Format",
	coap.MaxAge: "Max-Age", coap.URIQuery: "Uri-Query", coap.Accept: "Accept", coap.LocationQuery: "Location-Query", coap.Block2: "Block2",
	coap.Block1: "Block1", coap.Size2: "Size2", coap.ProxyURI: "Proxy-Uri", coap.ProxyScheme: "Proxy-Scheme", coap.Size1: "Size1",
	coap.Echo: "Echo", coap.NoResponse: "No-Response", coap.RequestTag: "Request-Tag",
}

// codeNames are the names of the codes of RFC 7252, 7959, 8132 and 8323.
var codeNames = map[coap.Code]string{
	coap.GET: "GET", coap.POST: "POST", coap.PUT: "PUT", coap.DELETE: "DELETE", coap.FETCH: "FETCH", coap.PATCH: "PATCH", coap.IPATCH: "iPATCH",
	coap.Empty: "Empty", coap.Created: "Created", coap.Deleted: "Deleted", coap.Valid: "Valid", coap.Changed: "Changed", coap.Content: "Content",
	coap.Continue: "Continue", coap.BadRequest: "Bad Request", coap.Unauthorized: "Unauthorized", coap.BadOption: "Bad Option",
	coap.Forbidden: "Forbidden", coap.NotFound: "Not Found", coap.MethodNotAllowed: "Method Not Allowed", coap.NotAcceptable: "Not Acceptable",
	coap.RequestEntityIncomplete: "Request Entity Incomplete", coap.Conflict: "Conflict", coap.PreconditionFailed: "Precondition Failed",
	coap.RequestEntityTooLarge: "Request Entity Too Large", coap.UnsupportedMediaType: "Unsupported Content-Format",
	coap.UnprocessableEntity: "Unprocessable Entity", coap.TooManyRequests: "Too Many Requests",
	coap.InternalServerError: "Internal Server Error", coap.NotImplemented: "Not Implemented", coap.BadGateway: "Bad Gateway",
	coap.ServiceUnavailable: "Service Unavailable", coap.GatewayTimeout: "Gateway Timeout", coap.ProxyingNotSupported: "Proxying Not Supported",
	7<<5 | 1: "CSM", 7<<5 | 2: "Ping", 7<<5 | 3: "Pong", 7<<5 | 4: "Release", 7<<5 | 5: "Abort",
}
