package coap

// optionRule gives the length of an option's value, and whether the option may be repeated.
type optionRule struct {
	least, most int
	repeatable  bool
}

// optionRules holds the known options, by the tables of RFC 7252, section 5.10, RFC 7641, section
// 2, RFC 7959, sections 2.1 and 4, RFC 7967 and RFC 9175, sections 2.2 and 3.2.
var optionRules = map[OptionID]optionRule{
	IfMatch:       {0, 8, true},
	URIHost:       {1, 255, false},
	ETag:          {1, 8, true}, // once in a response
	IfNoneMatch:   {0, 0, false},
	Observe:       {0, 3, false},
	URIPort:       {0, 2, false},
	LocationPath:  {0, 255, true},
	URIPath:       {0, 255, true},
	ContentFormat: {0, 2, false},
	MaxAge:        {0, 4, false},
	URIQuery:      {0, 255, true},
	Accept:        {0, 2, false},
	LocationQuery: {0, 255, true},
	Block2:        {0, 3, false},
	Block1:        {0, 3, false},
	Size2:         {0, 4, false},
	ProxyURI:      {1, 1034, false},
	ProxyScheme:   {1, 255, false},
	Size1:         {0, 4, false},
	Echo:          {1, 40, false},
	NoResponse:    {0, 1, false},
	RequestTag:    {0, 8, true},
}

// signalOption names an option of a signal. Each signal numbers its own options.
type signalOption struct {
	signal Code
	id     OptionID
}

// signalRules are the options of RFC 8323, sections 5.3 to 5.6.
var signalRules = map[signalOption]optionRule{
	{signalCSM, maxMessageSize}:         {0, 4, false},
	{signalCSM, blockwise}:              {0, 0, false},
	{signalPing, custody}:               {0, 0, false},
	{signalPong, custody}:               {0, 0, false},
	{signalRelease, alternativeAddress}: {1, 255, true},
	{signalRelease, holdOff}:            {0, 3, false},
	{signalAbort, badCSMOption}:         {0, 2, false},
}

// rule returns the rule for an option of a message with code.
func rule(code Code, id OptionID) (r optionRule, known bool) {
	switch {
	case class(code) == signalClass:
		r, known = signalRules[signalOption{code, id}]
	case (id == ProxyURI || id == ProxyScheme) && !isRequest(code):
	default:
		r, known = optionRules[id]
		if id == ETag && !isRequest(code) {
			r.repeatable = false // RFC 7252, section 5.10.6.1
		}
	}
	return r, known
}

// legal reports whether a message with code may have an option of n bytes. An option of illegal
// length, or a repetition of an option that is not repeatable, counts as unknown (RFC 7252,
// sections 5.4.3 and 5.4.5): if critical, the message is refused; if elective, the option is
// dropped. The handler sees elective options that the endpoint does not know.
func legal(code Code, id OptionID, n int, again bool) bool {
	r, known := rule(code, id)
	if !known {
		return !critical(id)
	}
	return n >= r.least && n <= r.most && (!again || r.repeatable)
}

// critical reports whether a recipient must understand option id.
func critical(id OptionID) bool { return id&1 != 0 }
