package lwm2m

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// Transport is the transport between a device and a server.
type Transport uint8

// The transports, by the schemes of their URIs: coap, coaps, coap+tcp, coaps+tcp.
const (
	TransportUDP Transport = iota + 1
	TransportDTLS
	TransportTCP
	TransportTLS
)

// The numbers are those of the endpoint, so that one converts to the other.
var _ = [1]struct{}{}[int(TransportTLS)-int(coap.TLS)]

// String returns the URI scheme of t, such as "coaps+tcp".
func (t Transport) String() string {
	switch t {
	case TransportUDP:
		return "coap"
	case TransportDTLS:
		return "coaps"
	case TransportTCP:
		return "coap+tcp"
	case TransportTLS:
		return "coaps+tcp"
	default:
		return "unknown"
	}
}

// secured reports whether t authenticates the device.
func (t Transport) secured() bool { return t == TransportDTLS || t == TransportTLS }

// Registration is what a [Server] knows of a device: its last Register with the Updates since, and
// the times and the address of its messages. It is a value; copies do not change.
type Registration struct {
	// Endpoint is the endpoint client name, as it was sent: 1 to 255 bytes of UTF-8 without control
	// characters.
	Endpoint string
	// ID is the last segment of the registration's location, /rd/ID. It is new with each Register.
	ID string
	// Address is the address from which the device sent its last Register or Update; requests go
	// there.
	Address netip.AddrPort
	// Local is the server's address that the device used; invalid if it is not known.
	Local     netip.AddrPort
	Transport Transport
	// Version is the LwM2M version that the device speaks: 1.0, 1.1 or 1.2.
	Version Version
	// Lifetime is how long the registration lasts without an Update, in whole seconds. 0 means
	// without end while the device sends messages; see [ServerConfig.MaxSilence].
	Lifetime time.Duration
	// Binding holds the letters of the transports at which the device can be reached, "U" if it
	// gave none.
	Binding string
	// Queue reports whether the device uses Queue Mode: it sleeps when it has nothing to send.
	Queue bool
	// SMS is the device's MSISDN, "" if it gave none.
	SMS string
	// ProfileID is the identifier of the device's profile (LwM2M 1.2), "" if it gave none.
	ProfileID string
	// Attributes holds the parameters of the Register that LwM2M does not define, by which a
	// program may route its devices: "site=north&tenant=a", sorted by name, in the form that
	// url.ParseQuery reads; "" if there are none. A parameter without "=" has the value "". Names
	// and values are printable UTF-8, as the device sent them: a "%41" of the device is these three
	// characters. A parameter without a name is ignored. More than 16 attributes, more than 512
	// bytes of this string, or two values of one name are refused with 4.00. An Update sets those
	// that it carries, and leaves the others as they are; see [ServerConfig.Authorize].
	Attributes string
	// Links is the list of objects as the device sent it, in the CoRE link format. See Objects.
	Links string
	// Identity is the identity that the device has proven; zero without credentials.
	Identity Identity
	// Secured reports whether this endpoint has ever registered with credentials. If so, the server
	// never accepts it without them, until [Server.DeleteDevice].
	Secured bool
	// Registered is the time of the Register. For this and the other times NewServer reads the
	// system's clock once; from then on the server's own clock counts. They do not go back when the
	// system's clock does, nor over a restart. If the system's clock is wrong at that moment, all
	// times are.
	Registered time.Time
	// Updated is the time of the last Register or Update, LastSeen that of the last message of any
	// kind. After a restart of the server both may be up to 30 s older than they were.
	Updated, LastSeen time.Time
	// Ended is when the registration ended by De-register or expiry; zero while it lives.
	Ended time.Time
}

// Expires returns when the registration ends unless an Update comes; the zero time if it has no
// lifetime.
func (r Registration) Expires() time.Time {
	if r.Lifetime == 0 {
		return time.Time{}
	}
	return r.Updated.Add(r.Lifetime)
}

// Attribute returns the value of one of the Attributes. Each call parses them.
func (r Registration) Attribute(name string) (value string, ok bool) {
	value, ok = decodeFurther(r.Attributes)[name]
	return value, ok
}

// Objects returns Links as a list of objects. Each call parses it.
func (r Registration) Objects() ObjectList {
	list, err := parseObjectList([]byte(r.Links))
	if err != nil {
		return ObjectList{} // the server refuses such links, but a store may hold anything
	}
	return list
}

// A RegistrationStore keeps registrations over restarts of the server. The server puts a Register,
// a De-register and an Update that changes the registration before it answers. It collects renewals
// and expiries for up to 30 s.
//
// The store keeps the records of ended registrations, since Secured must outlive them: only
// DeleteRegistration removes it. Methods are called from several goroutines, for one endpoint one
// at a time.
//
// A store for many devices has one more method. The server then calls it for renewals, instead of
// PutRegistration for each:
//
//	PutRegistrations(ctx context.Context, list []Registration) error
//
// It stores up to 1024 registrations of different endpoints, best in one commit, so that a store
// with some hundred commits a second keeps up with tens of thousands of renewals. When it returns
// nil, all are durable; after an error the server stores them again later. The store of package
// firmware has the method; a store that wraps it has to pass the method on.
type RegistrationStore interface {
	// PutRegistration stores r under r.Endpoint, in place of an earlier record. When it returns
	// nil, r is durable.
	PutRegistration(ctx context.Context, r Registration) error
	// DeleteRegistration removes an endpoint; one that is not stored is no error. When it returns
	// nil, the removal is durable.
	DeleteRegistration(ctx context.Context, endpoint string) error
	// Registrations returns all stored registrations, in any order, including ended ones, which
	// have no ID. For a record that cannot be read it yields the endpoint, and Secured if that is
	// known, with a nil error: an error ends the start of the server. The server reads it once,
	// when it starts.
	Registrations(ctx context.Context) iter.Seq2[Registration, error]
}

// EventKind says what happened to a registration.
type EventKind uint8

// The kinds of events.
const (
	// EventRegistered: a Register was accepted. It replaces an earlier registration of the
	// endpoint, without another event. Observations of the endpoint have ended.
	EventRegistered EventKind = iota + 1
	// EventUpdated: an Update was accepted.
	EventUpdated
	// EventDeregistered: the device ended its registration.
	EventDeregistered
	// EventExpired: the lifetime passed without an Update.
	EventExpired
	// EventSent: the device sent values by itself (Send, LwM2M 1.1). They are in Entries.
	EventSent
	// EventAwake: a device in queue mode sent a message after it had slept.
	EventAwake
	// EventAsleep: a device in queue mode was silent for the awake time, or did not answer.
	EventAsleep
)

var eventNames = [...]string{
	EventRegistered: "registered", EventUpdated: "updated", EventDeregistered: "deregistered", EventExpired: "expired",
	EventSent: "sent", EventAwake: "awake", EventAsleep: "asleep",
}

// String returns the kind in lower case, such as "registered".
func (k EventKind) String() string {
	if k >= 1 && int(k) < len(eventNames) {
		return eventNames[k]
	}
	return "unknown"
}

// RegistrationEvent is something that happened to a registration; see [Server.Watch].
type RegistrationEvent struct {
	Kind         EventKind
	Registration Registration // as it was after the event
	Entries      []Entry      // EventSent only; shared between watchers: do not change them
	// LinksChanged reports whether the list of objects changed with this EventUpdated, or with one
	// merged into it.
	LinksChanged bool
}
