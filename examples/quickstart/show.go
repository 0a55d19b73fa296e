package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otago-iot/otago/firmware"
)

const (
	barWidth = 30
	redraw   = 50 * time.Millisecond // minimum time between two drawings of progress
	quarter  = 25                    // per cent between two lines of progress without a terminal
)

// show prints the progress of updates: on a terminal a bar for each device, redrawn in place,
// otherwise a line for each change.
type show struct {
	out      io.Writer
	terminal bool
	rows     []*row
	drawn    bool
	last     time.Time // of the last drawing
}

// row is one device.
type row struct {
	id, endpoint string
	phase        firmware.Phase
	state        firmware.State
	outcome      firmware.Outcome
	percent      int
}

func newShow(out io.Writer, terminal bool) *show { return &show{out: out, terminal: terminal} }

// isTerminal reports whether lines of f can be redrawn.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	term := os.Getenv("TERM")
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && runtime.GOOS != "windows" && term != "" && term != "dumb"
}

func (s *show) server(devices, packages string) {
	fmt.Fprintf(s.out, "server  %s for devices, %s for packages\n", devices, packages)
}

func (s *show) image(i firmware.Image) {
	fmt.Fprintf(s.out, "image   %s %s, %.1f MiB, sha256 %.16s...\n\n", i.Name, i.Version, float64(i.Size)/(1<<20), i.SHA256)
}

func (s *show) add(u firmware.Update) {
	s.rows = append(s.rows, &row{id: u.ID, endpoint: u.Endpoint, phase: u.Machine.Phase})
}

// updates returns the ids of the updates.
func (s *show) updates() []string {
	ids := make([]string, len(s.rows))
	for i, r := range s.rows {
		ids[i] = r.id
	}
	return ids
}

// done reports whether every update has ended.
func (s *show) done() bool {
	for _, r := range s.rows {
		if r.outcome == firmware.OutcomeNone {
			return false
		}
	}
	return true
}

// event records an event and shows it.
func (s *show) event(e firmware.Event) {
	for _, r := range s.rows {
		if r.id != e.Update || r.outcome != firmware.OutcomeNone {
			continue
		}
		before := *r
		r.phase, r.state, r.outcome = e.Phase, e.State, e.Outcome
		if e.Progress.Total > 0 {
			r.percent = max(r.percent, int(100*e.Progress.Bytes/e.Progress.Total))
		}
		changed := r.phase != before.phase || r.state != before.state || r.outcome != before.outcome
		switch {
		case s.terminal && (changed || time.Since(s.last) >= redraw):
			s.draw()
		case !s.terminal && (changed || r.percent/quarter != before.percent/quarter):
			fmt.Fprintln(s.out, r)
		}
	}
}

// draw overwrites the rows that it has written before.
func (s *show) draw() {
	var b strings.Builder
	if s.drawn {
		fmt.Fprintf(&b, "\x1b[%dA", len(s.rows))
	}
	for _, r := range s.rows {
		full := barWidth * r.percent / 100
		fmt.Fprintf(&b, "\x1b[2K%-9s %s%s %s\n", r.endpoint, strings.Repeat("█", full), strings.Repeat("░", barWidth-full), r.status())
	}
	_, _ = io.WriteString(s.out, b.String()) // an error cannot be reported
	s.drawn, s.last = true, time.Now()
}

func (r *row) String() string { return fmt.Sprintf("%-9s %s", r.endpoint, r.status()) }

func (r *row) status() string {
	if r.outcome != firmware.OutcomeNone {
		return fmt.Sprintf("%3d%%  %-12s %s", r.percent, r.state, r.outcome)
	}
	return fmt.Sprintf("%3d%%  %-12s %s", r.percent, r.state, r.phase)
}

// table prints the results.
func (s *show) table(updates []firmware.Update) {
	if s.drawn {
		s.draw()
	}
	fmt.Fprintln(s.out)
	w := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "endpoint\told version\tnew version\tresult\toutcome\ttime")
	for _, u := range updates {
		m := u.Machine
		took, outcome := "", string(m.Outcome)
		if u.Active() {
			outcome = "(" + string(m.Phase) + ")"
		} else {
			took = m.Ended.Sub(u.Created).Round(100 * time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", u.Endpoint, m.OldVersion, m.Version, m.Result, outcome, took)
	}
	_ = w.Flush() // an error cannot be reported
}
