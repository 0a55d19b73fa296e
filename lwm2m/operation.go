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
