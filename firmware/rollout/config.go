package rollout

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// Types of the store and of the machine, repeated so that programs need not import them.
type (
	// Rollout is the record of a rollout; its Machine says where it stands.
	Rollout = store.Rollout
	// Member is one endpoint of a rollout.
	Member = store.Member
	// Event is a line of the journal of a rollout.
	Event = store.RolloutEvent
	// Store is what a back end keeps of rollouts.
	Store = store.Rollouts
	// Selector selects devices by what is known of them.
	Selector = firmware.Selector
	// Stage says how far a rollout goes before it waits and looks.
	Stage = fsm.Stage
	// Window is a part of some days, in which members install.
	Window = fsm.Window
)

// Config is the configuration of a [Manager]. The zero value works.
type Config struct {
	// Health is asked before a stage opens, with the number of that stage, from 2 on. The stage
	// opens if it returns true; else it is asked again a minute later, and the reason is in the
	// journal. It has 30 s until ctx ends; an error, a panic, or no answer counts as no. Default:
	// stages open.
	Health func(ctx context.Context, r Rollout, stage int) (ok bool, reason string, err error)
	// Allow is asked before an order of an actor is carried out: a company's approvals. An error, a
	// panic, or no answer refuses it: see ErrRefused. It has 10 s until ctx ends. Default: all
	// orders are allowed.
	Allow func(ctx context.Context, actor string, action Action, r Rollout) error
	// Retain is how long a rollout stays in the store after its end; a Manager that runs deletes it
	// then, with its members and its journal. Default: 365 days. A negative Retain is no limit.
	Retain time.Duration
	// Logger receives what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
}

// An Action is what an actor orders.
type Action string

// The actions.
const (
	ActionCreate Action = "create"
	ActionStart  Action = "start"
	ActionPause  Action = "pause"
	ActionResume Action = "resume"
	ActionOpen   Action = "open"
	ActionStop   Action = "stop"
	ActionRetry  Action = "retry"
	ActionAdd    Action = "add"
	ActionRemove Action = "remove"
	ActionEdit   Action = "edit"
)

// Errors of a Manager, beside those of the store.
var (
	// ErrState: the rollout is in a state in which the order makes no sense.
	ErrState = errors.New("rollout: not in this state")
	// ErrInvalid: the request or the order is not valid. The error wraps a *firmware.RequestError,
	// which says which field is wrong, by its path in the JSON of the HTTP API, and why.
	ErrInvalid = errors.New("rollout: invalid request")
	// ErrRefused: Config.Allow refuses the order. The error wraps that of Allow.
	ErrRefused = errors.New("rollout: not allowed")
)

// A Request says what a rollout is to do. Only Image, and Targets or Select, are required.
type Request struct {
	// ID is the id of the rollout, which decides in which order devices are updated: that of a
	// [DryRun], so that the order is the one that it has shown. Default: a new one.
	ID    string
	Name  string // at most 255 bytes
	Image string // id of an image of the repository
	// Targets are the endpoints, taken once, when the rollout is created; see [Endpoints]. An
	// endpoint that comes twice is one member. There are at most [MaxTargets].
	Targets iter.Seq2[string, error]
	// Select selects the targets among the devices that the server knows when the rollout is
	// created, instead of Targets. The zero Selector selects all of them.
	Select *Selector

	// Stages open one after another; the last one has Share 1. Default: 1 device with a soak of 10
	// minutes, 1 % and 10 % with the same soak, all.
	Stages []Stage
	// Only says which members a stage with Only admits, by the index of the stage, from 0.
	Only map[int]Only
	// Concurrency bounds how many devices transfer at a time, and apart from that how many install.
	// Default: 100.
	Concurrency int
	// Interval is the least time between two admissions. Default: none.
	Interval time.Duration
	// MaxFailure is the share of bad devices above which the rollout pauses, from 0 to 1. Nil is
	// 0.05.
	MaxFailure *float64
	// MissingAfter is how long a device may be silent after Execute, in queue mode beside its
	// lifetime. Default: 30 min.
	MissingAfter time.Duration
	// Window is when devices install. Default: always.
	Window Window
	// StartAt and EndAt bound the rollout. Defaults: now, and 30 days later.
	StartAt, EndAt time.Time
	// Downgrade updates devices too whose version is higher than that of the image, or cannot be
	// compared with it: versions compare as semantic versions. Default: they are skipped.
	Downgrade bool

	// Update has what each update asks for: Delivery, Protocol, Verify, Force, Deadline, Attempts,
	// Profile and Labels. The others must be empty.
	Update firmware.Request
	// Notes are what people want to keep with the rollout, at most 4096 bytes.
	Notes string
	// Start starts the rollout when it has its members. Default: it waits for [Manager.Start].
	Start bool
	// Actor is who asks for it, for the journal.
	Actor string

	// Key makes Create repeatable: within a day a second Create with the same Key returns the
	// rollout that the first one made. Default: each Create makes one.
	Key string
	// Fingerprint tells requests with the same Key apart: if it differs, Create returns ErrInvalid.
	Fingerprint string
}

// An Only names the members that a stage with Only admits, such as canaries: those with one of the
// endpoints, and those whose device had all of the labels when it became a member.
type Only struct {
	Endpoints []string          `json:"endpoints,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Bounds of a [Request].
const (
	MaxTargets = 1_000_000
	maxNotes   = 4096
)

// Endpoints returns targets of a [Request].
func Endpoints(list ...string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, endpoint := range list {
			if !yield(endpoint, nil) {
				return
			}
		}
	}
}

// plan returns the machine's plan.
func (r *Request) plan(now time.Time) fsm.Plan {
	p := fsm.Plan{
		Stages: r.Stages, Concurrency: r.Concurrency, Interval: r.Interval, MaxFailure: 0.05,
		MissingAfter: r.MissingAfter, Window: r.Window, StartAt: r.StartAt, EndAt: r.EndAt,
	}
	if len(p.Stages) == 0 {
		soak := 10 * time.Minute
		p.Stages = []Stage{{Size: 1, Soak: soak}, {Share: 0.01, Soak: soak}, {Share: 0.1, Soak: soak}, {Share: 1}}
	}
	if p.Concurrency == 0 {
		p.Concurrency = 100
	}
	if r.MaxFailure != nil {
		p.MaxFailure = *r.MaxFailure
	}
	if p.MissingAfter == 0 {
		p.MissingAfter = 30 * time.Minute
	}
	if p.EndAt.IsZero() {
		from := now
		if r.StartAt.After(now) {
			from = r.StartAt
		}
		p.EndAt = from.Add(30 * 24 * time.Hour)
	}
	return p
}
