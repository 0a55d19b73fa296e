package lwm2m

import (
	"context"
	"io"
)

// An Object is one object of a device, with its instances, as a [Client] offers it to servers.
//
// The client checks the operation against the object's model, if it knows one, before it calls the object; paths that it
// passes lie under the object. Methods may be called from several goroutines. Errors become response codes: see
// [ResponseError] and the sentinels beside it; any other error is answered with 5.00.
//
// An object may also implement [StreamWriter], [Runner], [ResourceLister] and [VersionFollower].
type Object interface {
	// ID returns the object's identifier.
	ID() uint16
	// Version returns the version of the object's definition, "" for 1.0.
	Version() string
	// Instances returns the identifiers of the instances that exist now, ascending. The slice is the caller's.
	Instances() []uint16
	// Read returns the readable values at and below path, which names an instance, a resource or a resource instance.
	// A resource that is absent now is left out; if path itself names it, the error is ErrNotFound.
	Read(ctx context.Context, path Path) ([]Entry, error)
	// Write sets the values of entries, all of which lie at or below path. If replace is true what is at path and not in
	// entries is removed (Write with PUT), otherwise it is kept (POST). It applies all entries or none.
	Write(ctx context.Context, path Path, entries []Entry, replace bool) error
	// Execute runs the resource at path. args is the argument list as it was sent, "" if there was none.
	// What must happen only when the server has its answer (a reboot) is given to [AfterResponse].
	Execute(ctx context.Context, path Path, args string) error
}

// A StreamWriter is an Object with resources whose values are too big for memory, such as a firmware package.
type StreamWriter interface {
	Object
	// OpenWrite says where the bytes of an opaque value that is about to be written at path go, or returns a nil Sink if
	// the value can be collected and passed to Write. size is what the server announced, -1 if it announced nothing.
	OpenWrite(ctx context.Context, path Path, size int64) (Sink, error)
}

// A Sink takes an opaque value piece by piece, in order. After Write has failed, only Abort is called; one that takes fewer bytes
// than it was given has failed.
type Sink interface {
	io.Writer
	// Commit ends a value that is complete. Its error is the answer to the server.
	Commit(ctx context.Context) error
	// Abort ends a value that will not be completed: the server fell silent or began anew.
	Abort(err error)
}

// A VersionFollower is an Object whose definition depends on the version of LwM2M that the client and the server have agreed on.
type VersionFollower interface {
	Object
	// FollowVersion is called with the version, 1.0 to 1.2, before each Register with it, and now and then between. What Version
	// and the other methods return from then on belongs to it.
	FollowVersion(lwm2m Version)
}

// A Runner is an Object that works on its own: it downloads, measures, waits.
type Runner interface {
	Object
	// Run is called once by [Client.Run], after the objects are in place and before the client registers, and must return
	// soon after ctx has ended. If it returns a non-nil error while ctx lives, Client.Run ends and returns that error.
	Run(ctx context.Context, client *Client) error
}
