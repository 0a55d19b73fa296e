package lwm2m

import "iter"

// Names that the tests of the codecs use beyond the package's API.

type (
	Codec         = codec
	Link          = coreLink
	LinkAttribute = linkAttribute
)

const (
	FormatOldText       = formatOldText
	FormatOldTLV        = formatOldTLV
	FormatOldJSON       = formatOldJSON
	FormatSenMLETCHJSON = formatSenMLETCHJSON
	FormatSenMLETCHCBOR = formatSenMLETCHCBOR
)

var (
	AppendDiscover  = appendDiscover
	AppendLinks     = appendLinks
	AppendPaths     = codec{}.appendPaths
	DecodePaths     = codec{}.decodePaths
	ParseDiscover   = parseDiscover
	ParseLinks      = parseLinks
	ParseObjectList = parseObjectList
	ParseAttributes = parseAttributes
)

// MustServer is NewServer for a valid configuration.
func MustServer(config ServerConfig) *Server {
	s, err := NewServer(config)
	if err != nil {
		panic(err)
	}
	return s
}

func (s Attributes) Cleared(a Attribute) bool            { return s.clears(a) }
func (s Attributes) IsZero() bool                        { return s.isZero() }
func (s Attributes) All() iter.Seq2[Attribute, float64]  { return s.all() }
func (s Attributes) Apply(w Attributes) Attributes       { return s.apply(w) }
func (s Attributes) Inherit(above Attributes) Attributes { return s.inherit(above) }
func (s Attributes) Check() error                        { return s.check() }
func (s Attributes) Queries() []string                   { return s.queries() }
func (l ObjectList) Append(dst []byte) []byte            { return l.appendTo(dst) }
func (o Operation) Safe() bool                           { return o.safe() }
func (p Path) Parent() Path                              { return p.parent() }
func (p Path) Child(id uint16) (Path, error)             { return p.checkedChild(id) }
