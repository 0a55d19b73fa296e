package tlv

// The tests need these in addition to the exported API.

type Decoder = decoder

var NewDecoder = newDecoder

func (e Element) Decoder() Decoder { return e.decoder() }

var AppendHeader = appendHeader

func ParseHeader(b []byte) (k Kind, id uint16, length, size int, err error) {
	h, size, err := parseHeader(b)
	return h.kind, h.id, h.length, size, err
}
