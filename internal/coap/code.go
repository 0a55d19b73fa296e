package coap

import (
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
)

// Code is a request method or a response code (RFC 7252, section 12.1).
type Code = codes.Code

// Methods.
const (
	GET    = codes.GET
	POST   = codes.POST
	PUT    = codes.PUT
	DELETE = codes.DELETE
	FETCH  = codes.FETCH
	PATCH  = codes.PATCH
	IPATCH = codes.IPATCH
)

// Response codes.
const (
	Empty                   = codes.Empty
	Created                 = codes.Created
	Deleted                 = codes.Deleted
	Valid                   = codes.Valid
	Changed                 = codes.Changed
	Content                 = codes.Content
	Continue                = codes.Continue
	BadRequest              = codes.BadRequest
	Unauthorized            = codes.Unauthorized
	BadOption               = codes.BadOption
	Forbidden               = codes.Forbidden
	NotFound                = codes.NotFound
	MethodNotAllowed        = codes.MethodNotAllowed
	NotAcceptable           = codes.NotAcceptable
	RequestEntityIncomplete = codes.RequestEntityIncomplete
	Conflict                = codes.Conflict
	PreconditionFailed      = codes.PreconditionFailed
	RequestEntityTooLarge   = codes.RequestEntityTooLarge
	UnsupportedMediaType    = codes.UnsupportedMediaType
	UnprocessableEntity     = codes.UnprocessableEntity
	TooManyRequests         = codes.TooManyRequests
	InternalServerError     = codes.InternalServerError
	NotImplemented          = codes.NotImplemented
	BadGateway              = codes.BadGateway
	ServiceUnavailable      = codes.ServiceUnavailable
	GatewayTimeout          = codes.GatewayTimeout
	ProxyingNotSupported    = codes.ProxyingNotSupported
)

// Option, Options and OptionID are the options of a message. A slice of Options that this package
// takes or returns is sorted by ID.
type (
	Option   = message.Option
	Options  = message.Options
	OptionID = message.OptionID
)

// Options by their names in the registry of RFC 7252, section 12.2.
const (
	IfMatch       = message.IfMatch
	URIHost       = message.URIHost
	ETag          = message.ETag
	IfNoneMatch   = message.IfNoneMatch
	Observe       = message.Observe
	URIPort       = message.URIPort
	LocationPath  = message.LocationPath
	URIPath       = message.URIPath
	ContentFormat = message.ContentFormat
	MaxAge        = message.MaxAge
	URIQuery      = message.URIQuery
	Accept        = message.Accept
	LocationQuery = message.LocationQuery
	Block2        = message.Block2
	Block1        = message.Block1
	Size2         = message.Size2
	ProxyURI      = message.ProxyURI
	ProxyScheme   = message.ProxyScheme
	Size1         = message.Size1
	Echo          = message.Echo
	NoResponse    = message.NoResponse
	RequestTag    = message.RequestTag
)

// Format is a Content-Format or Accept number. The zero value means that the option is absent,
// which differs from 0 (text/plain).
type Format struct {
	number  uint16
	present bool
}

// FormatOf returns the Format with number n of the IANA registry.
func FormatOf(n uint16) Format { return Format{n, true} }

// Get returns the number and whether there is one.
func (f Format) Get() (number uint16, ok bool) { return f.number, f.present }

// IsSet reports whether f holds a number.
func (f Format) IsSet() bool { return f.present }
