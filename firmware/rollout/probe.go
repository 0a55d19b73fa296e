package rollout

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// silentPause is how long a device that has not answered a probe is left alone.
const silentPause = 10 * time.Minute

// doubtful reports whether a member has had its turn already: its device may be silent, although it
// registers and keeps its registration. One that sleeps now can show nothing.
func (r *runner) doubtful(m *Member, reg *lwm2m.Registration) bool {
	return m.Machine.State == fsm.MemberWaiting && m.Machine.Attempt > 0 && !r.m.sleeps(reg)
}

// woke reports whether the device of a member that failed before is in queue mode, and awake: it
// does not wait for the end of its pause, at which it would be asleep.
func (r *runner) woke(m *Member) bool {
	reg, ok := r.m.srv.Registration(m.Endpoint)
	return ok && reg.Queue && !r.m.sleeps(&reg) && m.Machine.State == fsm.MemberWaiting && m.Machine.Failed != ""
}

// probe reads the device of a member that is doubtful, before the member is admitted again. So
// silent devices take places from the others once, and no stage waits for them after that.
func (r *runner) probe(ctx context.Context, endpoint string, lifetime time.Duration) {
	if _, twice := r.probing[endpoint]; twice || r.dry {
		return
	}
	if len(r.probing) >= parallel {
		r.walk.invitable()
		return
	}
	r.probing[endpoint] = struct{}{}
	r.actions.Go(func() {
		x := result{endpoint: endpoint, probe: true}
		if _, err := r.version(ctx, endpoint); err == nil {
			x.input = fsm.Input{Kind: fsm.InputReach, Lifetime: lifetime}
		}
		r.ended(x)
	})
}

// silent notes that the device of a member has not answered a probe.
func (b *batch) silent(ctx context.Context, endpoint string) error {
	m, err := b.find(ctx, endpoint)
	if err == nil && m != nil && m.Machine.State == fsm.MemberWaiting {
		m.Machine.Failed, m.Machine.Until = "the device does not answer", time.Now().Add(silentPause)
		b.put(m)
	}
	return err
}
