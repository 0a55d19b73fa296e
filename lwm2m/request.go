package lwm2m

import (
	"fmt"
	"io"
)

// A Request is one request to one device, for [Server.Go] and [Server.Do]. Which fields count
// depends on Operation; the others are ignored. Slices and Body must not change until the request
// has ended.
type Request struct {
	// Endpoint names the device.
	Endpoint  string
	Operation Operation
	// Path is the path of the request. Composites have none.
	Path Path
	// Paths are the paths that a composite reads or observes.
	Paths []Path
	// Entries are the values to write, or those of the instance to create.
	Entries []Entry
	// Arguments are those of an Execute: "" or a list such as "0='x',5".
	Arguments string
	// Attributes are the attributes to set, or to remove if they are marked as cleared.
	Attributes Attributes

	// Body is the value that OpWriteStream writes, in content format 42. The server reads it at
	// offsets in [0, Size), possibly more than once.
	Body io.ReaderAt
	// Size is the number of bytes in Body.
	Size int64
	// BlockSize is the largest block to send: 16, 32, 64, 128, 256, 512 or 1024 bytes. The device
	// may lower it. A multiple of 1024, up to 16384, is the size of a message over TCP and TLS to a
	// device that announces that it accepts several blocks in one (RFC 8323 section 6); some
	// devices announce it but do not accept them. Default: 1024.
	BlockSize int
	// SkipTaken is for a device that does not recognise duplicates and accepts blocks only in
	// order, such as Anjay by default. If its acknowledgement is lost and the server repeats the
	// block, it answers 5.03. The server then sends the next block, once: such a device accepts it,
	// or refuses it if it lacks the one before. A device that accepts gaps would store a hole.
	// Default: the server repeats the block until the device accepts it.
	SkipTaken bool
	// Exclusive holds back other requests to the device until the stream has ended, for clients
	// that accept none between two blocks. Default: other requests may go between blocks.
	Exclusive bool
	// Progress is called with the bytes that the device has acknowledged, of total, after each
	// block. It must not block. Default: none.
	Progress func(done, total int64)

	// Format is the content format to write, or to ask for. Default: nil, a format that suits the
	// device's version and the formats that it announced, and others if it refuses that; for a Read
	// and an Observe the device chooses.
	Format *ContentFormat
	// NoWait ends the request with [ErrAsleep] instead of waiting for a device that sleeps.
	// Default: it waits.
	NoWait bool

	// Values receives the present values, perhaps before the answer comes, and then those of each
	// notification; see [Server.Observe]. Default: they are dropped.
	Values func([]Entry)
	// Notice is called with the events of the request on its way. Like the done of [Server.Go], it
	// must not block. It is not called after done. Default: none.
	Notice func(Notice)
	// SkipSent leaves out NoticeSent if the server sends the first message before Server.Go
	// returns, as it does with most requests: [Call.Sent] says so, and costs less. Default: Notice
	// is called with it.
	SkipSent bool
	// Owner is for the functions of [Server.Before]; the server ignores it.
	Owner any
}

// An Answer is how a [Request] ended.
type Answer struct {
	// Entries are the values that a Read or an Observe found; none if the answer has no content.
	Entries []Entry
	// Discovered are the paths that a Discover found.
	Discovered []Discovered
	// Path is the path of the instance that a Create made, from the device's answer, else from the
	// Entries of the request, else the root.
	Path Path
	// Observation is the observation that an Observe started; the caller must end it.
	Observation *Observation
	// Err says why the request failed, nil if it did not: see [Server].
	Err error
}

// Notice is something that happens to a [Request] on its way.
type Notice uint8

// The notices.
const (
	// NoticeSent: the server sends the first message. The time before was spent at the server:
	// behind other requests to the device, for a device that slept, or in a function of
	// [Server.Before]. It comes once, even if the server sends the request again because the device
	// has moved.
	NoticeSent Notice = iota + 1
	// NoticeSilent: the device did not answer a message at once, so the server sends it again.
	NoticeSilent
	// NoticeBusy: the device is busy (5.03, 4.29), and the server tries again later.
	NoticeBusy
	// NoticeHeard: the device answers again, after NoticeSilent or NoticeBusy.
	NoticeHeard
	// NoticeRepeated: the device refused (5.03) a block of a stream that the server repeated for
	// lack of an acknowledgement: the device may have it, and not recognise duplicates. See
	// [Request.SkipTaken].
	NoticeRepeated
)

var noticeNames = [...]string{NoticeSent: "sent", NoticeSilent: "silent", NoticeBusy: "busy", NoticeHeard: "heard", NoticeRepeated: "repeated"}

// String returns the notice in lower case, such as "silent".
func (n Notice) String() string {
	if n >= 1 && int(n) < len(noticeNames) {
		return noticeNames[n]
	}
	return "unknown"
}

// check refuses a request that no device could serve.
func (r *Request) check() error {
	ok, should := true, ""
	switch r.Operation {
	case OpRead, OpObserve, OpWriteAttributes:
		ok, should = !r.Path.IsRoot(), "not be the root"
	case OpDiscover:
		ok, should = !r.Path.IsRoot() && r.Path.Len() <= 3, "be an object, an instance or a resource"
	case OpWrite, OpWritePartial, OpDelete:
		ok, should = r.Path.Len() >= 2, "be an instance or below"
	case OpWriteStream:
		if r.Size < 0 {
			return fmt.Errorf("%w: a body of %d bytes", ErrBadRequest, r.Size)
		}
		ok, should = r.Path.Len() >= 3, "be a resource"
	case OpExecute:
		if _, err := ParseArguments(r.Arguments); err != nil {
			return err
		}
		ok, should = r.Path.IsResource(), "be a resource"
	case OpCreate:
		ok, should = r.Path.IsObject(), "be an object"
	case OpReadComposite, OpObserveComposite, OpWriteComposite, opForget:
	default:
		return fmt.Errorf("%w: operation %d", ErrBadRequest, r.Operation)
	}
	if !ok {
		return fmt.Errorf("%w: %s should %s for %s", ErrPath, r.Path, should, r.Operation)
	}
	return nil
}

// about is the path that errors name: the root for composites.
func (r *Request) about() Path {
	switch r.Operation {
	case OpReadComposite, OpObserveComposite, OpWriteComposite:
		return Path{}
	default:
		return r.Path
	}
}
