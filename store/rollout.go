package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"math/bits"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/record"
)

// Rollouts keeps rollouts, their members and their journals, beside the records of a [Store] of the
// same namespace. A program that makes single updates only needs no Rollouts. What Store says of
// concurrent use, of records, of sequences and their errors, and of contexts, holds here too.
type Rollouts interface {
	// CommitRollouts applies all changes, in order, or none, and is durable when it returns nil.
	// Each change sees those before it. The errors are those of each change's type, and ErrInvalid.
	CommitRollouts(ctx context.Context, changes ...RolloutChange) error

	// Rollout returns the rollout with this id, or ErrNotFound, or ErrDamaged.
	Rollout(ctx context.Context, id string) (Rollout, error)
	// RolloutList yields the rollouts that the query selects, by falling id, which is newest first.
	RolloutList(ctx context.Context, q RolloutQuery) iter.Seq2[Rollout, error]

	// Member returns a member of a rollout, or ErrNotFound, or ErrDamaged.
	Member(ctx context.Context, rollout, endpoint string) (Member, error)
	// Members yields the members that the query selects, by rising [MemberQuery.Cursor]. One that
	// is damaged has its rollout and endpoint, and enough of its machine for Cursor.
	Members(ctx context.Context, q MemberQuery) iter.Seq2[Member, error]
	// MembersOf yields the members that have one of these endpoints, of rollouts that have not
	// ended.
	MembersOf(ctx context.Context, endpoints []string) iter.Seq2[Member, error]

	// RolloutEvents yields the lines of the journal of a rollout, by rising number.
	RolloutEvents(ctx context.Context, q RolloutEventQuery) iter.Seq2[RolloutEvent, error]
}

// A Rollout is the record of one image on its way to many endpoints. Its members are records of
// their own.
type Rollout struct {
	ID    string `record:"1"` // 26 characters that sort by creation time (a ULID)
	Name  string `record:"2"`
	Image string `record:"3,hex"` // id of the image
	// Request is what was asked for, in a form of the program's; at most MaxRolloutRequest bytes.
	Request string          `record:"4"`
	Machine rollout.Rollout `record:"5"` // what the state machine knows
	Lines   uint64          `record:"6"` // number of the journal's last line; set by the store

	Revision uint64    `record:"7"` // for compare-and-swap; set by the store
	Created  time.Time `record:"8"`
	Changed  time.Time `record:"9"`
}

// A Member is one endpoint of a rollout.
type Member struct {
	Rollout  string         `record:"1"` // id
	Endpoint string         `record:"2"`
	Zone     string         `record:"3"` // of the device's clock: a name of the IANA database, or an offset; "" if not known
	Machine  rollout.Member `record:"4"` // what the state machine knows
}

// Cursors returns where an index of a back end has the member: each is a text that begins with one
// of [MemberQuery.Prefix], and ends with [MemberOrder] and the endpoint. The first one has the
// state, the place of a waiting member or the reason of a skipped one, and the stage; the others
// are those of MemberQuery.Only. Within a prefix, members are in an order that looks random and
// never changes, so that devices of one site are spread over a rollout.
func (m *Member) Cursors() []string {
	detail := ""
	switch m.Machine.State {
	case rollout.MemberWaiting:
		detail = string(m.Machine.Place)
	case rollout.MemberSkipped:
		detail = string(m.Machine.Skip)
	}
	order := MemberOrder(m.Rollout, m.Endpoint)
	at := func(state, detail string, stage int) string {
		b := appendClass(make([]byte, 0, 2*MaxID+MaxEndpoint), state, detail, stage) // on the stack
		return string(append(append(b, order...), m.Endpoint...))
	}
	list := []string{at(string(m.Machine.State), detail, m.Machine.Stage)}
	if m.Machine.State == rollout.MemberWaiting {
		for only := m.Machine.Only; only != 0; only &= only - 1 {
			list = append(list, at(onlyState, "", bits.TrailingZeros16(only)+1))
		}
	}
	return list
}

// MemberAt returns what a cursor of [Member.Cursors] says of a member: its endpoint, its state, its
// place if it waits or why it is skipped, and its stage. A back end yields it for a member that it
// cannot read.
func MemberAt(id, cursor string) Member {
	m := Member{Rollout: id}
	words := strings.SplitN(cursor, ".", 4)
	if len(words) < 4 {
		return m
	}
	m.Endpoint = words[3][min(orderDigits, len(words[3])):]
	m.Machine.State = rollout.MemberState(words[0])
	if strings.HasPrefix(cursor, onlyState+".") {
		m.Machine.State = rollout.MemberWaiting
		return m
	}
	switch m.Machine.State {
	case rollout.MemberWaiting:
		m.Machine.Place = rollout.Place(words[1])
	case rollout.MemberSkipped:
		m.Machine.Skip = rollout.SkipReason(words[1])
	}
	m.Machine.Stage, _ = strconv.Atoi(words[2])
	return m
}

// orderDigits is the length of MemberOrder.
const orderDigits = 16

// memberClass is the start of the cursors of members that have a state, a detail of it, and a
// stage.
func memberClass(state, detail string, stage int) string {
	return string(appendClass(nil, state, detail, stage))
}

func appendClass(b []byte, state, detail string, stage int) []byte {
	b = append(append(append(append(b, state...), '.'), detail...), '.')
	return append(b, '0'+byte(stage/10), '0'+byte(stage%10), '.')
}

func onlyClass(stage int) string { return memberClass(onlyState, "", stage) }

// onlyState begins the cursors of members by the stages that name them.
const onlyState = "only"

// MemberOrder returns 16 hex digits by which the members of a rollout are ordered.
func MemberOrder(rollout, endpoint string) string {
	text := make([]byte, 0, MaxID+1+MaxEndpoint) // on the stack
	text = append(append(append(text, rollout...), 0), endpoint...)
	sum := sha256.Sum256(text)
	var digits [orderDigits]byte
	hex.Encode(digits[:], sum[:orderDigits/2])
	return string(digits[:])
}

// A RolloutEvent is one line of the journal of a rollout.
type RolloutEvent struct {
	Rollout string    `record:"1"`
	Seq     uint64    `record:"2"` // from 1, without gaps; set by the store
	Time    time.Time `record:"3"`
	Name    string    `record:"4"`
	Detail  string    `record:"5"` // for people; at most MaxDetail bytes, longer ones are cut
	Actor   string    `record:"6"` // who ordered it; "" for the server
	// Endpoint is the member that the line is about; "" if it is about the whole rollout.
	Endpoint string `record:"7"`
}

// RolloutQuery selects rollouts. The zero value selects all of them.
type RolloutQuery struct {
	Active bool   // only rollouts that have not ended
	After  string // id of the last rollout of the page before
	Limit  int    // how many at most; 0 means no limit
}

// MemberQuery selects members of one rollout. With a State or Only, a back end finds them by their
// [Member.Cursors], and reads no others.
type MemberQuery struct {
	Rollout string // id
	// State selects only members of one state; "" selects all.
	State rollout.MemberState
	// Place selects only members at this place, if State is waiting and AnyPlace is not set.
	Place    rollout.Place
	AnyPlace bool
	// Stage selects only members of State and Place that this stage admitted; it counts from 1, and
	// not with AnyPlace. 0 selects those of all stages.
	Stage int
	// Skip selects only members that are skipped for this reason, if State is skipped; "" selects
	// all.
	Skip rollout.SkipReason
	// Only selects the waiting members that this stage names: see [rollout.Member.Only]. It counts
	// from 1. State, Place and Stage do not count then. 0 selects by these.
	Only int

	// After is what Cursor returned for the last member of the page before. Members that change
	// meanwhile may come twice, or not at all.
	After string
	Limit int // how many at most; 0 means no limit
}

// Cursor returns where a member stands among those that the query selects, for After. If it is
// called for a member that the query has yielded, it must be before the member changes.
func (q *MemberQuery) Cursor(m *Member) string {
	switch {
	case q.Only > 0:
		return onlyClass(q.Only) + MemberOrder(m.Rollout, m.Endpoint) + m.Endpoint
	case q.State == "":
		return m.Endpoint
	}
	return m.Cursors()[0]
}

// Prefix returns the start of the cursors that the query selects, or "" if it selects all members,
// by rising endpoint.
func (q *MemberQuery) Prefix() string {
	switch {
	case q.Only > 0:
		return onlyClass(q.Only)
	case q.State == "":
		return ""
	case q.State == rollout.MemberSkipped && q.Skip != "":
		return string(q.State) + "." + string(q.Skip) + "."
	case q.State == rollout.MemberSkipped || q.AnyPlace:
		return string(q.State) + "."
	}
	place := ""
	if q.State == rollout.MemberWaiting {
		place = string(q.Place)
	}
	if q.Stage > 0 {
		return memberClass(string(q.State), place, q.Stage)
	}
	return string(q.State) + "." + place + "."
}

// RolloutEventQuery selects lines of the journal of one rollout.
type RolloutEventQuery struct {
	Rollout string // id
	After   uint64 // only lines with a greater number
	Limit   int    // how many at most; 0 means no limit
}

// A RolloutChange is one write of [Rollouts.CommitRollouts]: one of the following types.
type RolloutChange interface{ rolloutChange() }

// CreateRollout stores a new rollout. The store sets its Revision to 1, and Lines to 0.
//
// ErrExists: a rollout has this id. ErrNotFound: the image does not exist.
type CreateRollout struct{ Rollout Rollout }

// ReplaceRollout replaces the rollout with the same id, if its stored revision is Rollout.Revision.
// The stored revision becomes one more. Image, Lines and Created keep their stored values.
//
// ErrNotFound: no such rollout. ErrDamaged (as *DamagedError): the store cannot read it.
// ErrConflict: it has another revision.
type ReplaceRollout struct{ Rollout Rollout }

// PutMembers stores members of a rollout, new ones or others in place of those with the same
// endpoints. The counters of the rollout are not the store's affair: the caller replaces the
// rollout in the same commit.
//
// ErrNotFound: no such rollout.
type PutMembers struct {
	Rollout string // id
	Members []Member
}

// AppendRolloutEvents appends lines to the journal of a rollout. The store numbers them.
//
// ErrNotFound: no such rollout. ErrDamaged (as *DamagedError): the store cannot read it.
type AppendRolloutEvents struct {
	Rollout string // id
	Events  []RolloutEvent
}

// DeleteRollout removes a rollout that has ended, with its members and its journal, or at most
// Limit records of them: the rollout is removed with the last ones, so that the caller repeats the
// change until it gets ErrNotFound.
//
// ErrNotFound: no such rollout. ErrInUse: it has not ended. ErrDamaged: the store cannot read it,
// and Damaged is not set.
type DeleteRollout struct {
	ID    string
	Limit int
	// Damaged removes also a rollout that the store cannot read, whether it has ended or not.
	Damaged bool
}

func (CreateRollout) rolloutChange()       {}
func (ReplaceRollout) rolloutChange()      {}
func (PutMembers) rolloutChange()          {}
func (AppendRolloutEvents) rolloutChange() {}
func (DeleteRollout) rolloutChange()       {}

// MaxRolloutRequest bounds Rollout.Request, in bytes.
const MaxRolloutRequest = 64 << 10

// NormalizeRollout returns the change as every back end keeps it, as [Normalize] does for changes
// of a [Store].
func NormalizeRollout(c RolloutChange) (RolloutChange, error) {
	n := normalizer{}
	switch c := c.(type) {
	case CreateRollout:
		n.rollout(&c.Rollout)
		return c, n.err
	case ReplaceRollout:
		n.rollout(&c.Rollout)
		return c, n.err
	case PutMembers:
		n.word("rollout id", c.Rollout, 1, MaxID)
		c.Members = append([]Member(nil), c.Members...)
		for i := range c.Members {
			m := &c.Members[i]
			m.Rollout = c.Rollout
			n.member(m)
			sc := scratches.Get().(*scratch)
			n.encoded(sc, func() ([]byte, error) { return memberMachineCodec.Append(sc.data[:0], &m.Machine) })
		}
		return c, n.err
	case AppendRolloutEvents:
		n.word("rollout id", c.Rollout, 1, MaxID)
		c.Events = append([]RolloutEvent(nil), c.Events...)
		for i := range c.Events {
			e := &c.Events[i]
			e.Rollout = c.Rollout
			n.word("event name", e.Name, 1, MaxName)
			n.word("actor", e.Actor, 0, MaxName)
			n.word("endpoint", e.Endpoint, 0, MaxEndpoint)
			e.Detail = cut(clean(e.Detail), MaxDetail)
			n.time(&e.Time)
		}
		return c, n.err
	case DeleteRollout:
		n.word("rollout id", c.ID, 1, MaxID)
		if c.Limit < 1 {
			n.fail("limit %d is not positive", c.Limit)
		}
		return c, n.err
	}
	return nil, fmt.Errorf("%w: unknown change %T", ErrInvalid, c)
}

var (
	rolloutCodec        = record.Of[Rollout]()
	memberCodec         = record.Of[Member]()
	memberMachineCodec  = record.Of[rollout.Member]()
	rolloutMachineCodec = record.Of[rollout.Rollout]()
	rolloutEventCodec   = record.Of[RolloutEvent]()
)

// Normalize makes of m what [NormalizeRollout] makes of a member of PutMembers, for a back end that
// encodes the member at once: it leaves it to AppendBinary to fail for a value of an enumeration
// without a name, which is [ErrInvalid] too.
func (m *Member) Normalize() error {
	n := normalizer{}
	n.member(m)
	return n.err
}

func (n *normalizer) member(m *Member) {
	n.word("endpoint", m.Endpoint, 1, MaxEndpoint)
	n.text("zone", &m.Zone, MaxName)
	if m.Machine.State == "" {
		n.fail("member has no state")
	}
}

func (n *normalizer) rollout(r *Rollout) {
	n.word("rollout id", r.ID, 1, MaxID)
	n.word("rollout name", r.Name, 0, MaxName)
	n.word("image id", r.Image, 1, MaxID)
	if len(r.Request) > MaxRolloutRequest || !utf8.ValidString(r.Request) {
		n.fail("request has more than %d bytes, or is no UTF-8", MaxRolloutRequest)
	}
	if r.Machine.State == "" {
		n.fail("rollout has no state")
	}
	s := scratches.Get().(*scratch)
	n.encoded(s, func() ([]byte, error) { return rolloutMachineCodec.Append(s.data[:0], &r.Machine) })
	n.time(&r.Created)
	n.time(&r.Changed)
}

// AppendBinary implements encoding.BinaryAppender; see [Update.AppendBinary].
func (r *Rollout) AppendBinary(b []byte) ([]byte, error) { return appendRecord(rolloutCodec, b, r) }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (r *Rollout) UnmarshalBinary(data []byte) error { return parseRecord(rolloutCodec, data, r) }

// AppendBinary implements encoding.BinaryAppender; see [Update.AppendBinary].
func (m *Member) AppendBinary(b []byte) ([]byte, error) { return appendRecord(memberCodec, b, m) }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (m *Member) UnmarshalBinary(data []byte) error { return parseRecord(memberCodec, data, m) }

// AppendBinary implements encoding.BinaryAppender; see [Update.AppendBinary].
func (e *RolloutEvent) AppendBinary(b []byte) ([]byte, error) {
	return appendRecord(rolloutEventCodec, b, e)
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (e *RolloutEvent) UnmarshalBinary(data []byte) error {
	return parseRecord(rolloutEventCodec, data, e)
}
