package firmware

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/otago-iot/otago/store"
)

// ManagerConfig is the configuration of a [Manager]. With its zero value packages are pushed to
// devices.
type ManagerConfig struct {
	// Delivery serves packages to devices that pull them. The program mounts it. A device that
	// takes pushes and pulls is pushed to, unless the request or its profile says DeliveryPull.
	// Default: none; then this server only pushes, or leaves pulls to PackageURI.
	Delivery *Delivery
	// PackageURI returns the URI of the package of an update on another server, such as an object
	// store, for one protocol. "" means that the package is not available there by that protocol;
	// then Delivery serves it, if it can. The manager calls PackageURI for each protocol that
	// Delivery does not serve, to learn which ones are available, and for each URI that it writes
	// to a device: what it returns then comes before Delivery. So a URI can be signed, and may
	// expire, but not within Limits.Transferring, by default 2 h.
	//
	// With a PackageURI, a device that takes pushes and pulls is made to pull, unless the request
	// or its profile says DeliveryPush. It is pushed to if no protocol is left, or if a pull moves
	// no byte; a request that says DeliveryPull prevents that.
	//
	// A URI is absolute, has the scheme that p names, and has at most 255 bytes of ASCII, without
	// user info or fragment; for a profile with PathOnly (u.Machine.Plan.Profile) it is a path.
	// Logs and journals show only its host. The manager then knows only the progress that the
	// device reports; see also [Manager.Served].
	//
	// PackageURI has 10 s until ctx ends, and is called from up to 128 goroutines. If it fails,
	// panics, or does not return in time, the journal says so and the manager asks again, with
	// growing pauses; if a URI cannot be written, the manager tries another protocol. Default:
	// none.
	PackageURI func(ctx context.Context, u Update, p Protocol) (string, error)
	// Owns reports whether an endpoint belongs to this manager, for programs with several managers
	// on one lwm2m.Server. The manager refuses requests for other endpoints, and neither updates,
	// shows, reads nor deletes them. Each endpoint belongs to one manager at most, and to the same
	// one as long as it has an active update. Owns is called often, from several goroutines, and
	// must not block; if it panics, the endpoint does not belong to the manager. Managers with
	// different stores need a [lwm2m.ServerConfig].Registrations that keeps each registration in
	// the store of its manager. Default: all endpoints belong to it.
	Owns func(endpoint string) bool

	// Profiles are profiles that a [Request] may name, in addition to the built-in ones of
	// [Profiles]; one with the same name replaces a built-in one.
	Profiles map[string]Profile

	// Limits, Deadline and Attempts apply to each update whose request leaves them at zero.
	// Defaults: those of package fsm, such as a deadline of 24 h and 5 attempts.
	Limits   Limits
	Deadline time.Duration
	Attempts int

	// Retain limits the updates that have ended and stay in the store. Default: the last 20 of each
	// endpoint, for 365 days.
	Retain Retain
	// Keep returns a reason if the program still needs a record, for example because a rollout of
	// its own refers to it, and "" if the record may be deleted. The manager asks before it deletes
	// an update, by Retain too, and a device; its Repository asks before it deletes an image. id is
	// the id of the update or image, or the endpoint. Keep has 10 s until ctx ends, and is called
	// from up to 128 goroutines; if it fails, panics, or does not return in time, the record stays.
	// Default: the program needs none.
	Keep func(ctx context.Context, kind store.Kind, id string) (reason string, err error)

	// Parallel limits the requests in progress with devices that answer. Pushes last longer and
	// have a limit of their own, of the same size; so do the reads of Inventory. A quarter of each
	// is for devices that left their last request unanswered. Default: 1024.
	Parallel int
	// Silent limits the requests and pushes that a device has left unanswered and that are
	// retransmitted; they do not count against Parallel. Beyond the limit, the one that has been
	// silent for longest ends as if it had timed out. Default: 16,384.
	Silent int
	// Inventory makes the manager read State, Result and firmware version of each device that
	// registers, so that [Manager.Device] shows them and [Manager.Select] finds devices by them,
	// and also what the device says of itself (store.Facts), once for each version and list of
	// objects. Default: it reads only devices with an active update, and of those the facts only if
	// the image asks for some (Image.Compatible).
	Inventory bool

	// Logger receives what an operator should know; the package documentation lists the fields.
	// Tokens are never logged. Default: no logs.
	Logger *slog.Logger
	// Hooks are functions for metrics and traces. Default: none.
	Hooks Hooks
}

// check returns which field of a configuration cannot work, and why.
func (c *ManagerConfig) check(images *Repository) error {
	bad := func(field, problem string, args ...any) error {
		return fmt.Errorf("firmware: ManagerConfig."+field+": "+problem, args...)
	}
	switch {
	case c.Delivery != nil && c.Delivery.images != images:
		return bad("Delivery", "it serves the images of another Repository")
	case c.Deadline < 0 || c.Deadline > MaxDeadline:
		return bad("Deadline", "%s is not between 0 and %s", c.Deadline, MaxDeadline)
	case c.Attempts < 0 || c.Attempts > MaxAttempts:
		return bad("Attempts", "%d is not between 0 and %d", c.Attempts, MaxAttempts)
	case c.Parallel < 0:
		return bad("Parallel", "%d is negative", c.Parallel)
	case c.Silent < 0:
		return bad("Silent", "%d is negative", c.Silent)
	}
	if err := c.Limits.Check(); err != nil {
		return fmt.Errorf("firmware: ManagerConfig.%s", strings.TrimPrefix(err.Error(), "fsm: "))
	}
	for name, profile := range c.Profiles {
		if err := profile.Check(); err != nil {
			return bad("Profiles", "%.40q: %s", name, strings.TrimPrefix(err.Error(), "fsm: "))
		}
	}
	return nil
}
