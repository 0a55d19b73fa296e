package lwm2m

import "strconv"

// ContentFormat is a CoAP Content-Format number, as the Content-Format and
// Accept options and the ct attribute of a registration carry it.
type ContentFormat uint16

// The content formats of LwM2M. The SenML-ETCH ones (RFC 8790) are for the
// Write-Composite of LwM2M 1.2 alone. FormatOldText, FormatOldTLV and
// FormatOldJSON are numbers from before the registration of media types, which
// some clients still use.
const (
	FormatText          ContentFormat = 0
	FormatLink          ContentFormat = 40
	FormatOpaque        ContentFormat = 42
	FormatCBOR          ContentFormat = 60
	FormatSenMLJSON     ContentFormat = 110
	FormatSenMLCBOR     ContentFormat = 112
	FormatSenMLETCHJSON ContentFormat = 320
	FormatSenMLETCHCBOR ContentFormat = 322
	FormatOldText       ContentFormat = 1541
	FormatOldTLV        ContentFormat = 1542
	FormatOldJSON       ContentFormat = 1543
	FormatTLV           ContentFormat = 11542
	FormatJSON          ContentFormat = 11543
	FormatLwM2MCBOR     ContentFormat = 11544
)

// Canonical returns the registered number of a format, which differs from f
// for the old numbers only.
func (f ContentFormat) Canonical() ContentFormat {
	switch f {
	case FormatOldText:
		return FormatText
	case FormatOldTLV:
		return FormatTLV
	case FormatOldJSON:
		return FormatJSON
	default:
		return f
	}
}

// String returns the media type without its parameters, or the number of a
// format that is not one of LwM2M.
func (f ContentFormat) String() string {
	switch f.Canonical() {
	case FormatText:
		return "text/plain"
	case FormatLink:
		return "application/link-format"
	case FormatOpaque:
		return "application/octet-stream"
	case FormatCBOR:
		return "application/cbor"
	case FormatSenMLJSON:
		return "application/senml+json"
	case FormatSenMLCBOR:
		return "application/senml+cbor"
	case FormatSenMLETCHJSON:
		return "application/senml-etch+json"
	case FormatSenMLETCHCBOR:
		return "application/senml-etch+cbor"
	case FormatTLV:
		return "application/vnd.oma.lwm2m+tlv"
	case FormatJSON:
		return "application/vnd.oma.lwm2m+json"
	case FormatLwM2MCBOR:
		return "application/vnd.oma.lwm2m+cbor"
	default:
		return strconv.Itoa(int(f))
	}
}
