package postgres

import (
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

type deviceTable struct {
	endpoint, labels, address, transport, lwm2m []string
	lifetime                                    []time.Duration
	binding                                     []string
	queue                                       []bool
	identity                                    []string
	secured                                     []bool
	registered, updated, seen, ended            []*time.Time
	manufacturer, model, hardware, zone, offset []string
	version                                     []string
	state, result                               []*string
	read                                        []*time.Time
	record                                      [][]byte
}

func (t *deviceTable) add(row *deviceRow) {
	d := &row.device
	r, f := &d.Registration, &d.Firmware
	t.endpoint, t.labels, t.address = append(t.endpoint, d.Endpoint), append(t.labels, labelText(d.Labels)), append(t.address, r.Address)
	t.transport, t.lwm2m = append(t.transport, r.Transport), append(t.lwm2m, r.Version)
	t.lifetime, t.binding, t.queue = append(t.lifetime, r.Lifetime), append(t.binding, r.Binding), append(t.queue, r.Queue)
	t.identity, t.secured = append(t.identity, r.Identity), append(t.secured, r.Secured)
	t.registered, t.updated = append(t.registered, null(r.Registered)), append(t.updated, null(r.Updated))
	t.seen, t.ended = append(t.seen, null(r.LastSeen)), append(t.ended, null(r.Ended))
	t.manufacturer, t.model = append(t.manufacturer, d.Facts.Manufacturer), append(t.model, d.Facts.Model)
	t.hardware, t.zone, t.offset = append(t.hardware, d.Facts.Hardware), append(t.zone, d.Facts.Zone), append(t.offset, d.Facts.Offset)
	t.version, t.state, t.result = append(t.version, f.Version), append(t.state, maybe(f.State)), append(t.result, maybe(f.Result))
	t.read, t.record = append(t.read, null(f.Read)), append(t.record, row.record)
}

// flushDevices writes all renewals in one statement, and all other changes in one.
func (s *Store) flushDevices(batch *pgx.Batch, w *work) {
	space := s.config.Namespace
	var gone []string
	var t deviceTable
	var renewed []string
	var updated, seen []*time.Time
	var fresh, stale labelTable
	for _, endpoint := range slices.Sorted(maps.Keys(w.devices)) {
		row := w.devices[endpoint]
		switch {
		case !row.live && row.stored:
			gone = append(gone, endpoint)
		case row.changed:
			t.add(&row)
		case row.renewed:
			r := &row.device.Registration
			renewed, updated, seen = append(renewed, endpoint), append(updated, null(r.Updated)), append(seen, null(r.LastSeen))
		}
		if row.live && !row.changed {
			continue
		}
		fresh.addWithout(endpoint, row.device.Labels, row.labels)
		stale.addWithout(endpoint, row.labels, row.device.Labels)
	}
	if len(gone) > 0 {
		batch.Queue(s.sql(`DELETE FROM otago.devices WHERE namespace = $1::text AND endpoint = ANY($2::text[])`), space, gone)
	}
	if len(renewed) > 0 {
		batch.Queue(s.sql(`UPDATE otago.devices AS d SET updated = n.updated, last_seen = n.last_seen
			FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS n (endpoint, updated, last_seen)
			WHERE d.namespace = $1::text AND d.endpoint = n.endpoint`), space, renewed, updated, seen)
	}
	if len(t.endpoint) > 0 {
		batch.Queue(s.sql(`INSERT INTO otago.devices (namespace, endpoint, labels, address, transport, lwm2m, lifetime, binding, queue,
				identity, secured, registered, updated, last_seen, ended, manufacturer, model, hardware, zone, utc_offset, version, state,
				result, read, record)
			SELECT $1::text, endpoint, labels::jsonb, address, transport, lwm2m, lifetime, binding, queue, identity, secured, registered,
				updated, last_seen, ended, manufacturer, model, hardware, zone, utc_offset, version, state, result, read, record
			FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::interval[], $8::text[], $9::boolean[],
				$10::text[], $11::boolean[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[], $16::text[],
				$17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::timestamptz[],
				$25::bytea[])
				AS n (endpoint, labels, address, transport, lwm2m, lifetime, binding, queue, identity, secured, registered, updated,
					last_seen, ended, manufacturer, model, hardware, zone, utc_offset, version, state, result, read, record)
			ON CONFLICT (namespace, endpoint) DO UPDATE SET labels = excluded.labels, address = excluded.address,
				transport = excluded.transport, lwm2m = excluded.lwm2m, lifetime = excluded.lifetime, binding = excluded.binding,
				queue = excluded.queue, identity = excluded.identity, secured = excluded.secured, registered = excluded.registered,
				updated = excluded.updated, last_seen = excluded.last_seen, ended = excluded.ended, manufacturer = excluded.manufacturer,
				model = excluded.model, hardware = excluded.hardware, zone = excluded.zone, utc_offset = excluded.utc_offset,
				version = excluded.version, state = excluded.state, result = excluded.result, read = excluded.read,
				record = excluded.record`),
			space, t.endpoint, t.labels, t.address, t.transport, t.lwm2m, t.lifetime, t.binding, t.queue, t.identity, t.secured,
			t.registered, t.updated, t.seen, t.ended, t.manufacturer, t.model, t.hardware, t.zone, t.offset, t.version, t.state, t.result,
			t.read, t.record)
	}
	if len(stale.names) > 0 {
		batch.Queue(s.sql(`DELETE FROM otago.device_labels AS l USING unnest($2::text[], $3::text[], $4::text[]) AS n (name, value, endpoint)
			WHERE l.namespace = $1::text AND l.name = n.name AND l.value = n.value AND l.endpoint = n.endpoint`),
			space, stale.names, stale.values, stale.endpoints)
	}
	if len(fresh.names) > 0 {
		batch.Queue(s.sql(`INSERT INTO otago.device_labels (namespace, name, value, endpoint)
			SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::text[])`), space, fresh.names, fresh.values, fresh.endpoints)
	}
	s.flushDeviceCounts(batch, w)
}

type labelTable struct{ names, values, endpoints []string }

// addWithout adds labels of a device, except those that are among the others.
func (t *labelTable) addWithout(endpoint string, labels, others map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if value, ok := others[name]; !ok || value != labels[name] {
			t.names, t.values, t.endpoints = append(t.names, name), append(t.values, labels[name]), append(t.endpoints, endpoint)
		}
	}
}

func (s *Store) flushDeviceCounts(batch *pgx.Batch, w *work) {
	space := s.config.Namespace
	var facts, values, fewerFacts, fewerValues []string
	var by []int64
	order := func(a, b deviceFact) int { return compareText(a.fact, a.value, b.fact, b.value) }
	for _, key := range slices.SortedFunc(maps.Keys(w.deviceCounts), order) {
		n := w.deviceCounts[key]
		if n != 0 {
			facts, values, by = append(facts, key.fact), append(values, key.value), append(by, int64(n))
		}
		if n < 0 {
			fewerFacts, fewerValues = append(fewerFacts, key.fact), append(fewerValues, key.value)
		}
	}
	if len(facts) > 0 {
		batch.Queue(s.sql(`INSERT INTO otago.device_counts AS c (namespace, fact, value, devices)
			SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::bigint[])
			ON CONFLICT (namespace, fact, value) DO UPDATE SET devices = c.devices + excluded.devices`), space, facts, values, by)
	}
	if len(fewerFacts) > 0 { // values may be serial numbers
		batch.Queue(s.sql(`DELETE FROM otago.device_counts AS c USING unnest($2::text[], $3::text[]) AS n (fact, value)
			WHERE c.namespace = $1::text AND c.fact = n.fact AND c.value = n.value AND c.devices <= 0`), space, fewerFacts, fewerValues)
	}
}
