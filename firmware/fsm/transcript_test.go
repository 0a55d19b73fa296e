package fsm_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

var update = flag.Bool("update", false, "rewrite the golden files and MACHINES.md")

var epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "%s is out of date: go test ./firmware/fsm -update", path)
}

// TestTranscripts plays the scripts under testdata/transcripts. A line that starts in the first
// column is a command (see [player.play]), an indented one is the machine's response.
func TestTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/transcripts/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(path)
			require.NoError(t, err)
			var out strings.Builder
			p := player{t: t, out: &out, now: epoch}
			for line := range strings.Lines(string(script)) {
				if strings.HasPrefix(line, "  ") {
					continue
				}
				out.WriteString(line)
				if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
					p.play(strings.Fields(line))
				}
			}
			golden(t, path, out.String())
		})
	}
}

// player plays one script against one update.
type player struct {
	t        *testing.T
	out      *strings.Builder
	now      time.Time
	update   fsm.Update
	stored   []byte // the last update that was to be persisted
	doing    fsm.Action
	offers   []fsm.Protocol // nil: the protocols that the device lists, in its order
	lastWait fsm.Wait
}

// play runs one command:
//
//	update target=1.1.0 delivery=pull ...   a new update
//	started online | started away           and the other observations:
//	registered, updated, awake, asleep, away, hint, cancel, progress N
//	hint state=1                            a notification of 5/0/3
//	ok | refused 4.05 | unknown             the action under way ended so; an
//	                                        Observe with "ok state=1"
//	late 4.05                               the action before it ended so
//	read state=0 result=0 version=1.0.0 protocols=coap,http delivery=both
//	     defer=60s auto=1 holds             the read ended so; what is not
//	                                        named is answered 4.04
//	after 5s                                time passes, with all timers
//	wake                                    time passes to the next timer
//	down 3h                                 the server stops in order, and so
//	                                        stores all; time passes without timers
//	crash                                   the server starts again from what
//	                                        was persisted
//	hold NAME until=5h reason=x             and release NAME
//	queued, sent, silent, busy, repeated,
//	heard                                   what becomes of the action under way
//	asked X, trouble X, touched X           what was seen of a download, or of
//	                                        another request
//	damaged X | limit 8192                  the action ended so: the image cannot
//	                                        be read; 4.13 with Size1
//	after_end state=0                          ActionCancel ended so
func (p *player) play(cmd []string) {
	o := fsm.Observation{}
	switch args := cmd[1:]; cmd[0] {
	case "update":
		p.offers = nil
		p.update = fsm.NewUpdate(p.plan(args), p.now)
		p.persist()
		return
	case "after":
		d, err := time.ParseDuration(args[0])
		require.NoError(p.t, err)
		end := p.now.Add(d)
		for p.update.Active() && !p.update.Wake().After(end) {
			p.wake()
		}
		p.now = end
		return
	case "down":
		d, err := time.ParseDuration(args[0])
		require.NoError(p.t, err)
		p.persist()
		p.now = p.now.Add(d)
		return
	case "wake":
		p.wake()
		return
	case "late":
		// The end of the action before.
		o.Kind, o.Action, o.Code = fsm.ObserveDone, p.doing.ID-1, parseCode(p.t, args[0])
	case "crash":
		var stored fsm.Update
		require.NoError(p.t, json.Unmarshal(p.stored, &stored))
		p.update = stored
		o.Kind, o.Online = fsm.ObserveResumed, len(args) == 0
	case "started":
		o.Kind, o.Online = fsm.ObserveStarted, args[0] == "online"
	case "progress":
		n, err := strconv.ParseInt(args[0], 10, 64)
		require.NoError(p.t, err)
		o.Kind, o.Bytes = fsm.ObserveProgress, n
	case "ok":
		o.Kind, o.Action, o.Code = fsm.ObserveDone, p.doing.ID, fsm.CodeChanged
		if p.doing.Kind == fsm.ActionObserve {
			o.Code, o.Reading.State = fsm.CodeContent, p.reading(args).State
		}
	case "hint":
		o.Kind, o.Reading.State = fsm.ObserveHint, p.reading(args).State
	case "refused":
		o.Kind, o.Action, o.Code = fsm.ObserveDone, p.doing.ID, parseCode(p.t, args[0])
	case "unknown":
		o.Kind, o.Action = fsm.ObserveDone, p.doing.ID
	case "read":
		o.Kind, o.Action, o.Code = fsm.ObserveDone, p.doing.ID, fsm.CodeContent
		require.Equal(p.t, fsm.ActionRead, p.doing.Kind, "no read is under way")
		o.Reading = p.reading(args)
	case "hold":
		o.Kind, o.Hold.Holder = fsm.ObserveHold, args[0]
		for _, arg := range args[1:] {
			key, value, _ := strings.Cut(arg, "=")
			if key == "until" {
				d, err := time.ParseDuration(value)
				require.NoError(p.t, err)
				o.Hold.Until = epoch.Add(d)
			} else {
				o.Hold.Reason = value
			}
		}
	case "release":
		o.Kind, o.Hold.Holder = fsm.ObserveRelease, args[0]
	case "queued", "sent", "silent", "busy", "repeated", "heard":
		o.Action = p.doing.ID
		o.Kind = kindOf(p.t, cmd[0])
	case "trouble", "asked", "touched":
		o.Kind, o.Detail = kindOf(p.t, cmd[0]), strings.Join(args, " ")
	case "damaged":
		o.Kind, o.Action, o.Fault, o.Detail = fsm.ObserveDone, p.doing.ID, fsm.FaultImage, strings.Join(args, " ")
	case "limit":
		n, err := strconv.ParseInt(args[0], 10, 64)
		require.NoError(p.t, err)
		o.Kind, o.Action, o.Code, o.Limit = fsm.ObserveDone, p.doing.ID, fsm.CodeTooLarge, n
	case "after_end":
		o.Kind, o.Action, o.Reading = fsm.ObserveDone, p.doing.ID, p.reading(args)
	default:
		o.Kind = kindOf(p.t, cmd[0])
	}
	p.step(o)
}

// kindOf returns the observation kind of that name.
func kindOf(t *testing.T, name string) fsm.ObservationKind {
	for k := fsm.ObserveStarted; k <= fsm.ObserveCancel; k++ {
		if k.String() == name {
			return k
		}
	}
	t.Fatalf("no observation is called %q", name)
	return 0
}

func (p *player) wake() {
	p.now = p.update.Wake()
	p.step(fsm.Observation{Kind: fsm.ObserveTimer})
}

func (p *player) persist() {
	data, err := json.Marshal(p.update)
	require.NoError(p.t, err)
	p.stored = data
}

func (p *player) step(o fsm.Observation) {
	o.At = p.now
	before := p.update
	next, actions := p.update.Step(o)
	p.update = next
	if actions.Persist {
		p.persist()
	}
	say := func(format string, args ...any) {
		fmt.Fprintf(p.out, "    %7s  %s\n", p.now.Sub(epoch).Round(100*time.Millisecond), fmt.Sprintf(format, args...))
	}
	for _, e := range actions.Journal {
		say("%s: %s", e.Event, e.Detail)
	}
	if actions.Abandon {
		say("> abandon the action under way")
	}
	if a := actions.Do; a.Kind != fsm.ActionNone {
		p.doing = a
		say("> %s%s", a.Kind, actionDetail(a))
	}
	if next.Phase != before.Phase || next.State != before.State {
		say("= %s, %s", next.Phase, strings.ToUpper(next.State.String()))
	}
	if actions.Ended {
		say("= outcome %s, result %s, reason %s, reported %s", next.Outcome, strings.ToUpper(next.Result.String()), next.Reason, next.Reported)
	} else if next.Active() && actions.Do.Kind == fsm.ActionNone && next.Wait != p.lastWait {
		say(". waits for %s until %s", next.Wait.Reason, next.Wait.Until.Sub(epoch).Round(100*time.Millisecond))
		p.lastWait = next.Wait
	}
}

func actionDetail(a fsm.Action) string {
	var s string
	if a.Kind == fsm.ActionWriteURI {
		s += " " + a.Protocol.String()
	}
	if a.PathOnly {
		s += ", path only"
	}
	if a.Fresh {
		s += ", fresh"
	}
	if a.Reset != fsm.ResetEmptyURI {
		s += " " + string(a.Reset)
	}
	if a.Kind == fsm.ActionRead {
		for i, name := range []string{"state", "result", "version", "protocols", "delivery", "defer", "auto", "version(if news)", "device"} {
			if a.Resources.Has(1 << i) {
				s += " " + name
			}
		}
	}
	return s
}

func (p *player) plan(args []string) fsm.Plan {
	plan := fsm.Plan{Target: "1.1.0", Size: 1000}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "target":
			plan.Target = value
		case "verify":
			plan.Verify = fsm.Verify(value)
		case "delivery":
			err = plan.Delivery.UnmarshalText([]byte(value))
		case "protocol":
			err = plan.Protocol.UnmarshalText([]byte(value))
		case "schemes":
			p.offers = parseProtocols(p.t, value)
		case "force":
			plan.Force = true
		case "attempts":
			plan.Attempts, err = strconv.Atoi(value)
		case "deadline":
			plan.Deadline, err = time.ParseDuration(value)
		case "prefer":
			err = plan.Profile.Delivery.UnmarshalText([]byte(value))
		case "assume":
			plan.Profile.Protocols = parseProtocols(p.t, value)
		case "reset":
			plan.Profile.Reset = fsm.ResetForm(value)
		case "path":
			plan.Profile.PathOnly = true
		case "grace":
			plan.Profile.WriteGrace, err = time.ParseDuration(value)
		default:
			p.t.Fatalf("unknown word %q in update", arg)
		}
		require.NoError(p.t, err, arg)
	}
	return plan
}

func (p *player) reading(args []string) fsm.Reading {
	// A requested resource that the script does not name is answered with 4.04.
	missing := func(r fsm.Resources) fsm.Code {
		if p.doing.Resources.Has(r) {
			return fsm.CodeNotFound
		}
		return fsm.CodeNone
	}
	var r fsm.Reading
	r.State.Code, r.Result.Code = missing(fsm.ReadState), missing(fsm.ReadResult)
	r.Auto.Code = missing(fsm.ReadAuto)
	r.Protocols.Code, r.Delivery.Code = missing(fsm.ReadProtocols), missing(fsm.ReadDelivery)
	r.MaxDefer.Code = missing(fsm.ReadMaxDefer)
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "state":
			if code, bad := strings.CutPrefix(value, "!"); bad {
				r.State = fsm.Refused[fsm.State](parseCode(p.t, code))
				continue
			}
			r.State.Code = fsm.CodeContent
			err = r.State.Value.UnmarshalText([]byte(value))
		case "result":
			r.Result.Code = fsm.CodeContent
			err = r.Result.Value.UnmarshalText([]byte(value))
		case "version":
			if code, bad := strings.CutPrefix(value, "!"); bad {
				r.Version = fsm.Refused[string](parseCode(p.t, code))
				continue
			}
			r.Version = fsm.Known(value)
		case "protocols":
			r.Protocols = fsm.Known(parseProtocols(p.t, value))
		case "delivery":
			r.Delivery.Code = fsm.CodeContent
			err = r.Delivery.Value.UnmarshalText([]byte(value))
		case "auto":
			r.Auto = fsm.Known(value == "1")
		case "holds":
			r.Holds = true
		case "defer":
			r.MaxDefer.Code = fsm.CodeContent
			r.MaxDefer.Value, err = time.ParseDuration(value)
		default:
			p.t.Fatalf("unknown word %q in read", arg)
		}
		require.NoError(p.t, err, arg)
	}
	wanted := p.doing.Kind != fsm.ActionRead || p.doing.Resources.WantsVersion(r.State)
	require.True(p.t, wanted || r.Version.Code == fsm.CodeNone, "the version is not asked for")
	if wanted && r.Version.Code == fsm.CodeNone {
		r.Version.Code = fsm.CodeNotFound
	}
	if r.Offers = p.offers; r.Offers == nil {
		r.Offers = r.Protocols.Value
	}
	if r.Offers == nil {
		r.Offers = []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolCoAPS, fsm.ProtocolHTTP, fsm.ProtocolHTTPS}
	}
	return r
}

func parseProtocols(t *testing.T, list string) []fsm.Protocol {
	var out []fsm.Protocol
	for name := range strings.SplitSeq(list, ",") {
		var p fsm.Protocol
		err := p.UnmarshalText([]byte(name))
		require.NoError(t, err)
		out = append(out, p)
	}
	return out
}

func parseCode(t *testing.T, s string) fsm.Code {
	var class, detail uint8
	_, err := fmt.Sscanf(s, "%d.%02d", &class, &detail)
	require.NoError(t, err, s)
	return fsm.Code(class<<5 | detail)
}
