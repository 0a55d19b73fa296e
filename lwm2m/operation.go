package lwm2m

// An Operation is what a [Request] does.
type Operation uint8

// The operations, each with the fields of [Request] that count besides Endpoint, Operation, NoWait,
// Notice and Owner.
const (
	// OpRead reads the values at and below Path. Format is the format to ask for.
	OpRead Operation = iota + 1
	// OpReadComposite reads the values at and below Paths at once (LwM2M 1.1). Format counts.
	OpReadComposite
	// OpDiscover asks what there is at and below Path: an object, an instance or a resource.
	OpDiscover
	// OpObserve observes what is at and below Path. Values and Format count.
	OpObserve
	// OpObserveComposite observes Paths at once (LwM2M 1.1). Values and Format count.
	OpObserveComposite
	// OpWrite replaces what is at Path by Entries, which lie at or below it. Format counts.
	OpWrite
	// OpWritePartial sets Entries below the instance or multiple resource at Path and keeps the
	// rest. Format counts.
	OpWritePartial
	// OpWriteComposite sets Entries anywhere on the device, all or none (LwM2M 1.1). Format counts.
	OpWriteComposite
	// OpWriteAttributes sets and clears the notification Attributes at Path.
	OpWriteAttributes
	// OpWriteStream writes Body to the resource at Path, block by block. Size, BlockSize,
	// SkipTaken, Exclusive and Progress count.
	OpWriteStream
	// OpExecute runs the resource at Path with Arguments.
	OpExecute
	// OpCreate makes an instance of the object at Path with Entries. Format counts.
	OpCreate
	// OpDelete removes the instance or resource instance at Path.
	OpDelete

	// opForget ends an observation on the device.
	opForget
)

var operationNames = [...]string{
	OpRead: "read", OpReadComposite: "read-composite", OpDiscover: "discover",
	OpObserve: "observe", OpObserveComposite: "observe-composite",
	OpWrite: "write", OpWritePartial: "write-partial", OpWriteComposite: "write-composite",
	OpWriteAttributes: "write-attributes", OpWriteStream: "write-stream",
	OpExecute: "execute", OpCreate: "create", OpDelete: "delete",
}

// String returns the operation in lower case, such as "write-partial".
func (o Operation) String() string {
	if o >= 1 && int(o) < len(operationNames) {
		return operationNames[o]
	}
	return "unknown"
}

// safe reports whether the operation only reads, so that it does no harm to repeat it: OpRead to
// OpObserveComposite.
func (o Operation) safe() bool { return o >= OpRead && o <= OpObserveComposite }

// hooked reports whether the operation changes an object, so that the functions of [Server.Before]
// are called.
func (o Operation) hooked() bool {
	return o >= OpWrite && o <= OpDelete && o != OpWriteAttributes
}

// lane returns the lane of the request.
func (r *Request) lane() lane {
	switch {
	case r.Operation != OpWriteStream:
		return laneRequest
	case r.Exclusive:
		return laneExclusive
	default:
		return laneStream
	}
}

// Argument is an argument of an Execute: a digit, with or without a value; see [ParseArguments].
type Argument struct {
	Digit    uint8 // 0 to 9
	Value    string
	HasValue bool
}

// ParseArguments reads the argument list that [Object] gets with an Execute, in the order of the
// request (Core specification, Execute): digits with optional values in single quotes, between
// commas, such as "0='reset',2". Spaces, quotes, backslashes and control characters cannot be part
// of a value, and no digit occurs twice. Errors are [*FormatError].
func ParseArguments(list string) ([]Argument, error) {
	fail := func(i int, reason string) ([]Argument, error) {
		return nil, &FormatError{Format: FormatText, Offset: i, Reason: reason}
	}
	if len(list) == 0 {
		return nil, nil
	}
	var args []Argument
	var seen uint16
	for i := 0; ; {
		if i == len(list) || list[i] < '0' || list[i] > '9' {
			return fail(i, "an argument starts with a digit")
		}
		arg := Argument{Digit: list[i] - '0'}
		if seen&(1<<arg.Digit) != 0 {
			return fail(i, "digit used twice")
		}
		seen |= 1 << arg.Digit
		i++
		if i < len(list) && list[i] == '=' {
			if i++; i == len(list) || list[i] != '\'' {
				return fail(i, "a value starts with a quote")
			}
			start := i + 1
			for i++; i < len(list) && isArgumentChar(list[i]); i++ {
			}
			if i == len(list) || list[i] != '\'' {
				return fail(i, "a value ends with a quote and holds no space, quote or backslash")
			}
			arg.Value, arg.HasValue = list[start:i], true
			i++
		}
		args = append(args, arg)
		if i == len(list) {
			return args, nil
		}
		if list[i] != ',' {
			return fail(i, "a comma is expected")
		}
		i++
	}
}

func isArgumentChar(c byte) bool {
	return c > ' ' && c < 0x7f && c != '"' && c != '\'' && c != '\\'
}
