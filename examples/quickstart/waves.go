package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// soak is how long a wave is watched before the next one begins. A real one takes ten minutes, or a
// day.
const soak = 3 * time.Second

// stages are the waves.
var stages = []rollout.Stage{{Size: 1, Soak: soak}, {Share: 0.1, Soak: soak}, {Share: 0.4, Soak: soak}, {Share: 1}}

// waves is a rollout to show.
type waves struct {
	quickstart
	server  *backend.Backend
	dir     string
	names   []string
	refuses []atomic.Bool // by device
}

func newWaves(q quickstart, server *backend.Backend, dir string) *waves {
	w := &waves{quickstart: q, server: server, dir: dir, refuses: make([]atomic.Bool, q.devices)}
	for i := range q.devices {
		w.names = append(w.names, fmt.Sprintf("sensor-%03d", i+1))
	}
	return w
}

// devices returns the devices, which run in this process.
func (w *waves) devices() (run []func(context.Context) error) {
	for i, name := range w.names {
		run = append(run, demo.Device{
			Client:  lwm2m.ClientConfig{Endpoint: name, Server: w.server.URL(backend.CoAP)},
			Dir:     filepath.Join(w.dir, name),
			Version: oldVersion,
			Refuses: w.refuses[i].Load,
		}.Run)
	}
	return run
}

// run runs the rollout until it has ended, or stands still.
func (w *waves) run(ctx context.Context, s *show) error {
	manager, rollouts := w.server.Manager(), w.server.Rollouts()
	image, err := manager.Images().Add(ctx, firmware.Image{Name: "demo", Version: newVersion}, bytes.NewReader(demo.Image(newVersion, w.imageSize)))
	if err != nil {
		return err
	}
	s.image(image)
	if err := w.registered(ctx); err != nil {
		return err
	}
	r, err := rollouts.Create(ctx, rollout.Request{
		Name: "demo", Image: image.ID, Targets: rollout.Endpoints(w.names...), Stages: stages, Concurrency: 10, Actor: "quickstart",
		Update: firmware.Request{Delivery: firmware.DeliveryPull, Protocol: firmware.ProtocolHTTP},
	})
	if err != nil {
		return err
	}
	w.chooseBad(r.ID)
	if r, err = rollouts.Start(ctx, r.ID, rollout.Order{Actor: "quickstart"}); err != nil {
		return err
	}
	rows := newRows(s, w.names)
	for still := 0; still < 5; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
		if r, err = rollouts.Get(ctx, r.ID); err != nil {
			return err
		}
		rows.draw(r)
		if still++; !stands(r) {
			still = 0
		}
	}
	return w.conclude(ctx, s.out, r)
}

// registered waits until all devices have registered.
func (w *waves) registered(ctx context.Context) error {
	for n := 0; n < len(w.names); {
		n = 0
		for d, err := range w.server.Manager().Devices(ctx, store.DeviceQuery{}) {
			if err != nil {
				return err
			}
			if d.Firmware.Version != "" {
				n++
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d devices have registered: %w", n, len(w.names), context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// chooseBad chooses the devices that refuse the image: those whose turn is first in the third wave.
func (w *waves) chooseBad(id string) {
	order := make([]int, len(w.names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return strings.Compare(store.MemberOrder(id, w.names[a]), store.MemberOrder(id, w.names[b]))
	})
	for i := range w.fail {
		w.refuses[order[(ceiling(1, len(order))+i)%len(order)]].Store(true)
	}
}

// ceiling returns how many of n devices the waves up to this one have.
func ceiling(stage, n int) int {
	if s := stages[stage]; s.Size == 0 {
		return int(math.Ceil(s.Share*float64(n) - 1e-9))
	}
	return stages[stage].Size
}

// stands reports whether nothing happens any more unless an operator orders it.
func stands(r rollout.Rollout) bool {
	m := &r.Machine
	return m.State == fsm.StateEnded || m.State == fsm.StatePaused && m.Slots.Transferring+m.Slots.Installing == 0
}

// rows shows a bar for each wave on a terminal, otherwise a line for each change.
type rows struct {
	show *show
	n    int // devices
	text []string
}

func newRows(s *show, names []string) *rows {
	return &rows{show: s, n: len(names), text: make([]string, len(stages))}
}

func (t *rows) draw(r rollout.Rollout) {
	var b strings.Builder
	if t.show.terminal && t.show.drawn {
		fmt.Fprintf(&b, "\x1b[%dA", len(stages)+1)
	}
	for i := range stages {
		text := t.row(&r.Machine, i)
		switch {
		case t.show.terminal:
			b.WriteString("\x1b[2K" + text + "\n")
		case text != t.text[i]:
			b.WriteString(text + "\n")
		}
		t.text[i] = text
	}
	if t.show.terminal {
		reason, _ := rollout.Describe(r)
		fmt.Fprintf(&b, "\x1b[2K%s\n", sentence(reason))
	}
	_, _ = io.WriteString(t.show.out, b.String()) // an error cannot be reported
	t.show.drawn = true
}

// row describes a wave.
func (t *rows) row(m *fsm.Rollout, i int) string {
	c, size := m.Stages[i], ceiling(i, t.n)
	if i > 0 {
		size -= ceiling(i-1, t.n)
	}
	size = max(size, c.Admitted())
	var parts []string
	for _, p := range []struct {
		n    int
		name string
	}{{c.Succeeded, "updated"}, {c.Failed, "failed"}, {c.RolledBack, "rolled back"}, {c.Active, "under way"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.name))
		}
	}
	state := strings.Join(parts, ", ")
	if m.Stage == i && m.State == fsm.StateRunning && m.StageState == fsm.StageSoaking {
		state += ", watched"
	}
	bar := ""
	if t.show.terminal {
		of := func(n int) int { return barWidth * n / max(size, 1) }
		done, bad, way := of(c.Succeeded), of(c.Succeeded+c.Failed+c.RolledBack), of(c.Admitted())
		bar = strings.Repeat("█", done) + strings.Repeat("x", bad-done) + strings.Repeat("▒", way-bad) + strings.Repeat("░", barWidth-way) + " "
	}
	devices := "devices"
	if size == 1 {
		devices = "device "
	}
	return strings.TrimRight(fmt.Sprintf("wave %d  %3d %s  %s%s", i+1, size, devices, bar, state), " ")
}

func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// conclude says how the rollout went, and what an operator would do next. The error says that the
// rollout did not do what it should.
func (w *waves) conclude(ctx context.Context, out io.Writer, r rollout.Rollout) error {
	m := &r.Machine
	reason, _ := rollout.Describe(r)
	fmt.Fprintln(out)
	if m.State != fsm.StatePaused {
		fmt.Fprintln(out, sentence(reason))
		if m.Total.Succeeded != w.devicesThatTake() {
			return fmt.Errorf("%d devices were updated, not %d", m.Total.Succeeded, w.devicesThatTake())
		}
		return nil
	}
	fmt.Fprintf(out, "The rollout has stopped by itself: %s.\n", reason)
	fmt.Fprintf(out, "%d devices run %s, %d still run %s", m.Total.Succeeded, newVersion, m.Total.Waiting+m.Total.Active, oldVersion)
	if m.Total.Active > 0 {
		fmt.Fprintf(out, " (%d of them have the package, and must not install it)", m.Total.Active)
	}
	fmt.Fprintf(out, ", and %d have failed:\n", m.Total.Failed+m.Total.RolledBack)
	for member, err := range w.server.Rollouts().Members(ctx, store.MemberQuery{Rollout: r.ID, State: fsm.MemberFailed}) {
		if err != nil {
			return err
		}
		u, err := w.server.Manager().Get(ctx, member.Machine.Update)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %s  %s: %s (%s)\n", member.Endpoint, u.Machine.Outcome, u.Machine.Reason, u.Machine.Result)
	}
	fmt.Fprintf(out, `
What an operator would do next, with examples/server or in Go:
  look at the journals of the updates that failed   curl SERVER/api/v1/rollouts/%[1]s/members?state=failed
  go on, as if nothing had failed                   curl -X POST SERVER/api/v1/rollouts/%[1]s/resume
  or end it, and roll out a better image            curl -X POST SERVER/api/v1/rollouts/%[1]s/stop
`, r.ID)
	return nil
}

// devicesThatTake returns how many devices take the image.
func (w *waves) devicesThatTake() int { return len(w.names) - w.fail }
