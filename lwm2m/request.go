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
	// Path is what the request is about. Composites have none.
	Path Path
	// Paths are what a composite reads or observes.
	Paths []Path
	// Entries are the values to write, or those of the instance to create.
	Entries []Entry
	// Arguments are those of an Execute: "" or a list such as "0='x',5".
	Arguments string
	// Attributes are the ones to set, or to remove if they are marked as cleared.
	Attributes Attributes

	// Body is written by OpWriteStream as it is, in content format 42. It is read at offsets in [0,
	// Size), possibly more than once.
	Body io.ReaderAt
	// Size is the number of bytes in Body.
	Size int64
	// BlockSize is the largest block to send: 16, 32, 64, 128, 256, 512 or 1024 bytes. Default:
	// 1024. The device may lower it. A multiple of 1024, up to 16384, is how much goes into one
	// message over TCP and TLS to a device that announces that it takes several blocks there (RFC
	// 8323 section 6); there are devices that announce it and do not.
	BlockSize int
	// SkipTaken is for a device that has no cache of duplicates and takes blocks in no order but
	// theirs, such as Anjay by default: it answers a block that it has, and gets again because its
	// acknowledgement was lost, with 5.03. The next block is sent then, once; such a device goes on
	// with it, or refuses it if it lacks the one before. A device that accepts gaps would store a
	// hole. Default: the block is repeated until the device takes it.
	SkipTaken bool
	// Exclusive holds other requests to the device back until the stream has ended, for clients
	// that take nothing between two blocks. Default: others may pass between.
	Exclusive bool
	// Progress is called with the bytes that the device has acknowledged, of total, after each
	// block. It must not block. Default: none.
	Progress func(done, total int64)

	// Format is the content format of what is written, or the one asked for. Default, nil: what
	// suits the device's version and what it announced, other formats when it refuses that; of a
	// Read and an Observe what the device chooses.
	Format *ContentFormat
	// NoWait ends the request with [ErrAsleep] instead of waiting for a device that sleeps.
	// Default: it waits.
	NoWait bool

	// Values receives the present values of what is observed, perhaps before the answer comes, and
	// then those of each notification; see [Server.Observe]. Default: they are dropped.
	Values func([]Entry)
	// Notice is called with what happens to the request on its way. Like the function that
	// [Server.Go] is given, it must not block, and is not called again once that was called.
	// Default: none.
	Notice func(Notice)
	// Owner is not looked at by the server; the functions of [Server.Before] may.
	Owner any
}

// An Answer is how a [Request] ended.
type Answer struct {
	// Entries are the values that a Read found. An answer without content is one without entries.
	Entries []Entry
	// Discovered is what a Discover found.
	Discovered []Discovered
	// Path is that of the instance that a Create made, as the device says, or as Entries of the
	// request do; the root if neither does.
	Path Path
	// Observation is the observation that an Observe began; the caller ends it.
	Observation *Observation
	// Err says why the request failed, nil if it did not: see [Server].
	Err error
}

// Notice is something that happens to a [Request] on its way.
type Notice uint8

// The notices.
const (
	// NoticeSent: the first message goes out. Whatever time has passed before was spent at this
	// server: behind other requests to the device, for a device that slept, or in a function of
	// [Server.Before]. It comes once, also if the request goes again because the device has moved.
	NoticeSent Notice = iota + 1
	// NoticeSilent: the device did not answer a message at once, so that it is sent again.
	NoticeSilent
	// NoticeBusy: the device asks to come later (5.03, 4.29), and the server does.
	NoticeBusy
	// NoticeHeard: the device answers again, after NoticeSilent or NoticeBusy.
	NoticeHeard
	// NoticeRepeated: the device refused a block of a stream (5.03) when that came again because no
	// acknowledgement of it had arrived: it may have it, and not recognise duplicates. See
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

// check refuses what cannot be asked of any device.
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
