package lwm2m

import (
	"context"
	"io"
)

// An Object is one object of a device, with its instances, as a [Client] offers it to servers.
// [ValueObject] is ready to use.
//
// The client checks each operation against the object's model, if it has one, before it calls the
// object, and passes only paths of the object. Methods may be called from several goroutines. Their
// errors become response codes: see [ResponseError] and the sentinels beside it; any other error is
// answered with 5.00.
//
// An object may also implement [InstanceCreator], [StreamWriter], [Runner], [ResourceLister] and
// [VersionFollower].
type Object interface {
	// ID returns the object's identifier.
	ID() uint16
	// Version returns the version of the object's definition, "" for 1.0.
	Version() string
	// Instances returns the identifiers of the instances that exist now, ascending. The slice is
	// the caller's.
	Instances() []uint16
	// Read returns the readable values at and below path, which names an instance, a resource or a
	// resource instance. It leaves out resources without a value; if path itself names one, the
	// error is ErrNotFound. ErrUnavailable means not now: the client reads for observations again,
	// and ends them only after 5 min. Any other error ends them.
	Read(ctx context.Context, path Path) ([]Entry, error)
	// Write sets the values of entries, all of which lie at or below path: an instance, a resource
	// or a resource instance. If replace is true (Write with PUT), Write removes the values at and
	// below path that servers may write and entries lacks, or fails with ErrBadRequest if one of
	// them is mandatory; otherwise (POST) it keeps them. A multiple resource without instances is
	// an entry with the zero Value. Write applies all entries or none.
	Write(ctx context.Context, path Path, entries []Entry, replace bool) error
	// Execute runs the resource at path. args is the argument list as it was sent, "" if there was
	// none. Pass work that must wait until the server has its answer, such as a reboot, to
	// [AfterResponse].
	Execute(ctx context.Context, path Path, args string) error
}

// An InstanceCreator is an Object whose instances servers create and delete. For any other Object
// the client answers Create and Delete with 4.05.
type InstanceCreator interface {
	Object
	// Create makes an instance with the values of entries, whose paths lie below it; one entry with
	// the path of the instance stands for an instance without resources. The client has checked
	// that the instance does not exist and that entries has the mandatory resources of the model
	// that servers write. If the server named no instance, the client has chosen the lowest free
	// identifier. The object chooses the values of other resources.
	Create(ctx context.Context, instance uint16, entries []Entry) error
	// Delete removes an instance, which exists, or an instance of a multiple resource (since LwM2M
	// 1.1), which may not exist: then the error is ErrNotFound. The error for an instance that must
	// stay is ErrMethodNotAllowed.
	Delete(ctx context.Context, path Path) error
}

// A StreamWriter is an Object with resources whose values are too big for memory, such as a
// firmware package.
type StreamWriter interface {
	Object
	// OpenWrite returns a Sink for an opaque value that a server begins to write at path, or nil if
	// the client should collect the value in memory and pass it to Write. size is the size that the
	// server announced, -1 if it announced none.
	OpenWrite(ctx context.Context, path Path, size int64) (Sink, error)
}

// A Sink takes an opaque value piece by piece, in order. After Write has failed, only Abort is
// called. A Write that takes fewer bytes than it was given has failed.
type Sink interface {
	io.Writer
	// Commit ends a value that is complete. The client answers with its error.
	Commit(ctx context.Context) error
	// Abort ends a value that will not be completed: the server went silent or started over.
	Abort(err error)
}

// A VersionFollower is an Object whose definition depends on the version of LwM2M that the client
// and the server have agreed on.
type VersionFollower interface {
	Object
	// FollowVersion is called with the version, 1.0 to 1.2, before each Register, and before the
	// client lists the objects for an Update. From then on Version and the other methods follow
	// that version.
	FollowVersion(lwm2m Version)
}

// A Runner is an Object that works on its own: it downloads, measures, waits.
type Runner interface {
	Object
	// Run is called once by [Client.Run], before the client registers, and must return soon after
	// ctx has ended. If it returns a non-nil error while ctx lives, Client.Run ends and returns
	// that error, and does not de-register.
	Run(ctx context.Context, client *Client) error
}
