package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/store"
)

// rowsOf calls yield with each row of a table, and first with its columns.
type rowsOf func(ctx context.Context, db store.Rollouts, yield func(fields []string) error) error

// writeRows writes a table as CSV, or as one JSON object a line.
func writeRows(ctx context.Context, w io.Writer, db store.Rollouts, rows rowsOf, asCSV bool) error {
	table := csv.NewWriter(w)
	lines := json.NewEncoder(w)
	lines.SetEscapeHTML(false)
	var columns []string
	err := rows(ctx, db, func(fields []string) error {
		switch {
		case asCSV:
			return table.Write(harmless(fields))
		case columns == nil:
			columns = fields
			return nil
		}
		object := map[string]string{}
		for i, name := range columns {
			object[name] = fields[i]
		}
		return lines.Encode(object)
	})
	table.Flush()
	return errors.Join(err, table.Error())
}

// eachRollout calls fn for each rollout, the oldest first. The error also names damaged ones.
func eachRollout(ctx context.Context, db store.Rollouts, fn func(store.Rollout) error) error {
	var damaged error
	var ids []string // the list is newest first
	for r, err := range db.RolloutList(ctx, store.RolloutQuery{}) {
		switch {
		case errors.Is(err, store.ErrDamaged):
			damaged = errors.Join(damaged, err)
		case err != nil:
			return err
		default:
			ids = append(ids, r.ID)
		}
	}
	for _, id := range slices.Backward(ids) {
		r, err := db.Rollout(ctx, id)
		if err == nil {
			err = fn(r)
		}
		if err != nil {
			return err
		}
	}
	return damaged
}

func rolloutRows(ctx context.Context, db store.Rollouts, yield func([]string) error) error {
	err := yield([]string{
		"id", "name", "image", "state", "cause", "reason", "waiting", "active", "succeeded", "failed", "rolled_back", "skipped",
		"created", "started", "ended",
	})
	if err != nil {
		return err
	}
	return eachRollout(ctx, db, func(r store.Rollout) error {
		m, n := r.Machine, r.Machine.Total
		reason, _ := rollout.Describe(r)
		return yield([]string{
			r.ID, r.Name, r.Image, string(m.State), string(m.Reason), reason, fmt.Sprint(n.Waiting), fmt.Sprint(n.Active), fmt.Sprint(n.Succeeded),
			fmt.Sprint(n.Failed), fmt.Sprint(n.RolledBack), fmt.Sprint(n.Skipped), timeText(r.Created), timeText(m.Started), timeText(m.Ended),
		})
	})
}

func memberRows(ctx context.Context, db store.Rollouts, yield func([]string) error) error {
	err := yield([]string{"rollout", "endpoint", "state", "place", "reason", "stage", "attempt", "update", "later_version", "later_time"})
	if err != nil {
		return err
	}
	var damaged error
	err = eachRollout(ctx, db, func(r store.Rollout) error {
		for member, err := range db.Members(ctx, store.MemberQuery{Rollout: r.ID}) {
			if errors.Is(err, store.ErrDamaged) {
				damaged = errors.Join(damaged, err)
				continue
			}
			if err != nil {
				return err
			}
			m := member.Machine
			err := yield([]string{
				r.ID, member.Endpoint, string(m.State), string(m.Place), string(m.Skip), fmt.Sprint(m.Stage), fmt.Sprint(m.Attempt), m.Update,
				m.Later, timeText(m.LaterAt),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, damaged)
}
