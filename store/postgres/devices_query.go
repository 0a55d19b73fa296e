package postgres

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/store"
)

const deviceFields = `endpoint, record, labels::text, secured, updated, last_seen`

// scanDevice returns a device, and its columns. Of a damaged one it returns what is certain.
func scanDevice(row pgx.Row, more ...any) (d store.Device, data []byte, labels string, err error) {
	var secured bool
	var updated, seen *time.Time
	if err := row.Scan(append([]any{&d.Endpoint, &data, &labels, &secured, &updated, &seen}, more...)...); err != nil {
		return d, data, labels, err
	}
	if err = unsealDevice(&d, data, secured, updated, seen); err == nil {
		if d.Labels, err = parseLabels(labels); err != nil {
			err = &store.DamagedError{Kind: store.KindDevice, Key: d.Endpoint, Err: err}
		}
	}
	return d, data, labels, err
}

// Device implements store.Store.
func (s *Store) Device(ctx context.Context, endpoint string) (store.Device, error) {
	return one(ctx, s, s.sql(`SELECT `+deviceFields+` FROM otago.devices WHERE namespace = $1::text AND endpoint = $2::text`),
		[]any{s.config.Namespace, endpoint}, func(row pgx.Row) (store.Device, error) {
			d, _, _, err := scanDevice(row)
			return d, err
		})
}

// maxMerged limits how many versions a query merges. One for more reads all devices.
const maxMerged = 64

// A deviceList is a list that an index has in order: of the devices with one of some values.
type deviceList struct {
	fact   string // as in device_counts
	values []string
}

// lists returns the lists in all of which a device must be.
func deviceLists(q *store.DeviceQuery) (lists []deviceList) {
	for _, name := range slices.Sorted(maps.Keys(q.Labels)) {
		lists = append(lists, deviceList{factLabel + name, []string{q.Labels[name]}})
	}
	for _, f := range []deviceFact{{factManufacturer, q.Manufacturer}, {factModel, q.Model}, {factHardware, q.Hardware}} {
		if f.value != "" {
			lists = append(lists, deviceList{f.fact, []string{f.value}})
		}
	}
	if n := len(q.Versions); n > 0 && n <= maxMerged && !slices.Contains(q.Versions, "") {
		lists = append(lists, deviceList{factVersion, slices.Compact(slices.Sorted(slices.Values(q.Versions)))})
	}
	return lists
}

// shortest returns the list that has the fewest devices.
func (s *Store) shortest(ctx context.Context, lists []deviceList) (best deviceList, err error) {
	if len(lists) == 1 {
		return lists[0], nil
	}
	var facts, values []string
	for _, l := range lists {
		for _, value := range l.values {
			facts, values = append(facts, l.fact), append(values, value)
		}
	}
	devices := map[string]int64{}
	err = s.read(ctx, func(ctx context.Context) error {
		clear(devices)
		rows, err := s.pool.Query(ctx, s.sql(`SELECT c.fact, sum(c.devices)::bigint FROM otago.device_counts AS c
			JOIN unnest($2::text[], $3::text[]) AS n (fact, value) ON c.fact = n.fact AND c.value = n.value
			WHERE c.namespace = $1::text GROUP BY c.fact`), s.config.Namespace, facts, values)
		if err != nil {
			return err
		}
		defer rows.Close()
		return each(rows, func() error {
			var fact string
			var n int64
			err := rows.Scan(&fact, &n)
			devices[fact] = n
			return err
		})
	})
	return slices.MinFunc(lists, func(a, b deviceList) int { return cmp.Compare(devices[a.fact], devices[b.fact]) }), err
}

// Devices implements store.Store. As [Store.Updates], it reads the rows of one index.
func (s *Store) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[store.Device, error] {
	return func(yield func(store.Device, error) bool) {
		from := `SELECT * FROM otago.devices WHERE namespace = $1::text AND endpoint > $2::text`
		args := []any{s.config.Namespace, nil, nil}
		if lists := deviceLists(&q); len(lists) > 0 {
			list, err := s.shortest(ctx, lists)
			if err != nil {
				yield(store.Device{}, err)
				return
			}
			from, args = list.query(args)
		} else if q.Registered {
			from += ` AND ended IS NULL`
		}
		selected := where{args: args}
		selected.and("true")
		selected.devices(&q)
		sql := s.sql(fmt.Sprintf(`SELECT %s, %s FROM (%s ORDER BY endpoint LIMIT $3::integer) AS d ORDER BY endpoint`,
			deviceFields, selected.text.String(), from))
		next := func(last *store.Device, n int) (string, []any) {
			args := slices.Clone(selected.args)
			args[1], args[2] = q.After, n
			if last != nil {
				args[1] = last.Endpoint
			}
			return sql, args
		}
		scan := func(rows pgx.Rows) (store.Device, bool, error) {
			var selected bool
			d, _, _, err := scanDevice(rows, &selected)
			return d, selected, err
		}
		bare := func(d store.Device) store.Device { return store.Device{Endpoint: d.Endpoint} }
		query(ctx, s, q.Limit, q.Filter, bare, next, scan)(yield)
	}
}

// query returns the query for the devices of a list, which is to be ordered by endpoint and limited
// to $3, and its arguments.
func (l deviceList) query(args []any) (string, []any) {
	one := func(value string) string {
		return fmt.Sprintf(`SELECT * FROM otago.devices WHERE namespace = $1::text AND %s = %s AND %[1]s <> '' AND endpoint > $2::text`, l.fact, value)
	}
	switch {
	case len(l.fact) > len(factLabel) && l.fact[:len(factLabel)] == factLabel:
		return `SELECT d.* FROM (SELECT namespace, endpoint FROM otago.device_labels WHERE namespace = $1::text AND name = $4::text
			AND value = $5::text AND endpoint > $2::text ORDER BY endpoint LIMIT $3::integer) AS l
			JOIN otago.devices AS d USING (namespace, endpoint)`, append(args, l.fact[len(factLabel):], l.values[0])
	case len(l.values) == 1:
		return one("$4::text"), append(args, l.values[0])
	}
	// The lists of several values are merged.
	return `SELECT d.* FROM unnest($4::text[]) AS v (value), LATERAL (` + one("v.value") + ` ORDER BY endpoint LIMIT $3::integer) AS d`,
		append(args, l.values)
}

// devices adds the conditions of a query of devices.
func (w *where) devices(q *store.DeviceQuery) {
	if len(q.Labels) > 0 {
		w.and("labels @> ?::text::jsonb", labelText(q.Labels))
	}
	if len(q.Versions) > 0 {
		w.and("version = ANY(?::text[])", q.Versions)
	}
	for column, value := range map[string]string{"manufacturer": q.Manufacturer, "model": q.Model, "hardware": q.Hardware} {
		if value != "" {
			w.and(column+" = ?::text", value)
		}
	}
	if q.Registered {
		w.and("ended IS NULL")
	}
}

// DeviceCounts implements store.Store.
func (s *Store) DeviceCounts(ctx context.Context) (c store.DeviceCounts, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		c = store.DeviceCounts{}
		rows, err := s.pool.Query(ctx, s.sql(`SELECT fact, value, devices FROM otago.device_counts WHERE namespace = $1::text AND fact = ''
			UNION ALL (SELECT fact, value, devices FROM otago.device_counts WHERE namespace = $1::text AND fact = 'version' ORDER BY value LIMIT $2::integer)
			UNION ALL (SELECT fact, value, devices FROM otago.device_counts WHERE namespace = $1::text AND fact = 'model' ORDER BY value LIMIT $2::integer)`),
			s.config.Namespace, store.MaxDeviceCounts)
		if err != nil {
			return err
		}
		defer rows.Close()
		return each(rows, func() error {
			var fact string
			var n store.DeviceCount
			err := rows.Scan(&fact, &n.Value, &n.Devices)
			switch fact {
			case factVersion:
				c.Versions = append(c.Versions, n)
			case factModel:
				c.Models = append(c.Models, n)
			default:
				if of, ok := map[string]*uint64{"": &c.Devices, factVersion: &c.WithVersion, factModel: &c.WithModel}[n.Value]; ok {
					*of = n.Devices
				}
			}
			return err
		})
	})
	return c, err
}
