package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/store"
)

// runExport writes the firmware update table of a store. A bolt store must not be open in a running
// server.
func runExport(ctx context.Context, args []string, env environment) (err error) {
	fs := cli.NewFlagSet(env.stderr, "server export", "[flags]",
		"writes the firmware update table, the rollouts or their members, oldest first, to standard output. A server on the same bolt file has to be stopped.")
	data := fs.String("data", "otago-data", "`folder` of the server")
	place := fs.String("store", "", "`place` of the records: bolt:FILE or postgres://USER@HOST/DATABASE (default bolt:ota.db in the data folder)")
	format := fs.String("format", "csv", "csv, jsonl: one JSON object a line, or table: CSV with the columns and the words of flownexus's table FirmwareUpdate")
	of := fs.String("of", "updates", "updates, rollouts, or members: those of all rollouts; the last two as csv or jsonl")
	if err := cli.Parse(fs, args, env.lookup); err != nil {
		return err
	}
	if err := cli.NoArguments(fs); err != nil {
		return err
	}
	write, ok := map[string]func(io.Writer, *exporter) error{
		"csv": writeCSV, "jsonl": writeJSONLines, "table": writeTable,
	}[*format]
	if !ok {
		return cli.Usagef("-format %q is neither csv, jsonl nor table", *format)
	}
	var rows rowsOf
	switch *of {
	case "updates":
	case "rollouts":
		rows = rolloutRows
	case "members":
		rows = memberRows
	default:
		return cli.Usagef("-of %q is neither updates, rollouts nor members", *of)
	}
	if rows != nil && *format == "table" {
		return cli.Usagef("-format table is for updates")
	}
	db, err := openStore(ctx, storePlace{name: *place, data: *data, read: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if rows != nil {
		return writeRows(ctx, env.stdout, db, rows, *format == "csv")
	}
	return write(env.stdout, &exporter{ctx: ctx, db: db, images: map[string]store.Image{}})
}

// row is one line of the table.
type row struct {
	ID             string   `json:"id"`
	Endpoint       string   `json:"endpoint"`
	Image          string   `json:"image"`
	Name           string   `json:"name"`
	OldVersion     string   `json:"old_version"`
	Version        string   `json:"version"`
	State          string   `json:"state"`
	Result         string   `json:"result"`
	ReportedResult string   `json:"reported_result"`
	Outcome        string   `json:"outcome"`
	Reason         string   `json:"reason"`
	Attempt        int      `json:"attempt"`
	Created        string   `json:"created"`
	Ended          string   `json:"ended"`
	MayStill       string   `json:"may_still"` // of a cancelled or timed-out update
	Holders        []string `json:"holders"`   // holders that keep the update from executing

	changed time.Time
}

// columns are the names of a row's fields, in order.
var columns = []string{
	"id", "endpoint", "image", "name", "old_version", "version", "state", "result", "reported_result", "outcome", "reason",
	"attempt", "created", "ended", "may_still", "holders",
}

func (r row) fields() []string {
	return []string{
		r.ID, r.Endpoint, r.Image, r.Name, r.OldVersion, r.Version, r.State, r.Result, r.ReportedResult, r.Outcome, r.Reason,
		strconv.Itoa(r.Attempt), r.Created, r.Ended, r.MayStill, strings.Join(r.Holders, ", "),
	}
}

// exporter turns updates into rows.
type exporter struct {
	ctx    context.Context
	db     store.Store
	images map[string]store.Image // seen so far
}

// each calls fn for each update. The error also names damaged updates, which have no row.
func (e *exporter) each(fn func(row) error) error {
	var damaged error
	for update, err := range e.db.Updates(e.ctx, store.UpdateQuery{Oldest: true}) {
		if errors.Is(err, store.ErrDamaged) {
			damaged = errors.Join(damaged, err)
			continue
		}
		if err != nil {
			return err
		}
		image, err := e.image(update.Image)
		if err != nil {
			return err
		}
		m := update.Machine
		r := row{
			ID: update.ID, Endpoint: update.Endpoint, Image: update.Image, Name: image.Name,
			OldVersion: m.OldVersion, Version: m.Plan.Target,
			State: strings.ToUpper(m.State.String()), Result: strings.ToUpper(m.Result.String()), Outcome: string(m.Outcome), Reason: string(m.Reason),
			Attempt: m.Attempt, Created: timeText(update.Created), Ended: timeText(m.Ended), MayStill: string(m.MayStill),
			Holders: make([]string, len(m.Holds)), changed: update.Changed,
		}
		for i, hold := range m.Holds {
			r.Holders[i] = hold.Holder
		}
		if m.Reported != 0 {
			r.ReportedResult = strings.ToUpper(m.Reported.String())
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return damaged
}

// image returns an image's record, or an empty one if it has been deleted or is damaged.
func (e *exporter) image(id string) (store.Image, error) {
	if image, ok := e.images[id]; ok {
		return image, nil
	}
	image, err := e.db.Image(e.ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged) {
		return store.Image{}, err
	}
	e.images[id] = image
	return image, nil
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func writeCSV(w io.Writer, e *exporter) error { return e.csv(w, columns, row.fields) }

func (e *exporter) csv(w io.Writer, columns []string, fields func(row) []string) error {
	out := csv.NewWriter(w)
	if err := out.Write(columns); err != nil {
		return err
	}
	err := e.each(func(r row) error { return out.Write(harmless(fields(r))) })
	out.Flush()
	return errors.Join(err, out.Error())
}

// writeTable writes the table FirmwareUpdate of flownexus, with the names of its columns and of the
// values of State and Result. RESULT_DEFAULT means that the update is active. RESULT_CANCELLED is
// the one value that flownexus does not have.
func writeTable(w io.Writer, e *exporter) error {
	columns := []string{"id", "endpoint", "firmware", "state", "result", "timestamp_created", "timestamp_updated"}
	return e.csv(w, columns, func(r row) []string {
		return []string{r.ID, r.Endpoint, r.Version, "STATE_" + r.State, "RESULT_" + r.Result, r.Created, timeText(r.changed)}
	})
}

// harmless puts an apostrophe before a field that a spreadsheet would read as a formula, because
// devices choose their endpoint names.
func harmless(fields []string) []string {
	for i, f := range fields {
		if f != "" && (f[0] == '=' || f[0] == '+' || f[0] == '-' || f[0] == '@') {
			fields[i] = "'" + f
		}
	}
	return fields
}

func writeJSONLines(w io.Writer, e *exporter) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return e.each(func(r row) error { return out.Encode(r) })
}
