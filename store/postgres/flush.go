package postgres

import (
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/otago-iot/otago/store"
)

// flush queues the statements that write what the commits have made of the rows, except what needs
// the numbers of journal lines: see [Store.flushJournal]. It reports whether there are any.
func (s *Store) flush(batch *pgx.Batch, w *work) {
	s.flushImages(batch, w)
	s.flushUpdates(batch, w)
	s.flushDevices(batch, w)
	s.flushRollouts(batch, w)
	s.flushKeys(batch, w)
	s.flushCounts(batch, w)
}

func (s *Store) flushImages(batch *pgx.Batch, w *work) {
	space := s.config.Namespace
	var gone []string
	for _, id := range slices.Sorted(maps.Keys(w.images)) {
		if row := w.images[id]; row.stored && (!row.live || row.remade) {
			gone = append(gone, id)
		}
	}
	if len(gone) > 0 {
		batch.Queue(s.sql(`DELETE FROM otago.firmware_images WHERE namespace = $1::text AND id = ANY($2::text[])`), space, gone)
	}
	for _, id := range slices.Sorted(maps.Keys(w.images)) {
		row := w.images[id]
		if !row.live || !row.remade {
			continue
		}
		i := &row.image
		record, err := sealImage(i)
		if err != nil {
			panic(err) // Normalize has refused what cannot be encoded
		}
		batch.Queue(s.sql(`INSERT INTO otago.firmware_images (namespace, id, name, version, size, sha256, created, manufacturer,
				model, hardware, record)
			VALUES ($1::text, $2::text, $3::text, $4::text, $5::bigint, $6::text, $7::timestamptz, $8::text, $9::text, $10::text,
				$11::bytea)`),
			space, i.ID, i.Name, i.Version, i.Size, i.SHA256, null(i.Created), i.Compatible.Manufacturer, i.Compatible.Model,
			i.Compatible.Hardware, record)
	}
}

// A table is the columns of rows that one statement writes.
type updateTable struct {
	id, endpoint, image, key, labels, version, state, result []string
	outcome                                                  []*string
	reason, phase, waiting, whose                            []string
	until                                                    []*time.Time
	bytes, size                                              []int64
	attempt                                                  []int32
	oldVersion, later                                        []string
	created, changed, ended                                  []*time.Time
	revision, since                                          []int64
	lines                                                    []int32
	record                                                   [][]byte
}

// add appends a row. Those of an update that is not new have no fixed columns. The journal's last
// line had the number seq when the transaction began. While several servers write, others may come
// before those of the transaction, so that Since may be too low, which misses no line.
func (t *updateTable) add(id string, row *updateRow, seq uint64) {
	c := row.cells
	t.id = append(t.id, id)
	if u := row.made; u != nil {
		t.endpoint, t.image, t.key = append(t.endpoint, u.Endpoint), append(t.image, u.Image), append(t.key, u.Key)
		t.labels, t.created = append(t.labels, labelText(u.Labels)), append(t.created, null(u.Created))
		t.since = append(t.since, int64(seq)+int64(row.since))
	}
	t.version, t.state, t.result = append(t.version, c.version), append(t.state, c.state), append(t.result, c.result)
	t.outcome = append(t.outcome, outcomeColumn(c.outcome))
	t.reason, t.phase, t.waiting = append(t.reason, c.reason), append(t.phase, c.phase), append(t.waiting, c.waiting)
	t.whose, t.later = append(t.whose, c.whose), append(t.later, c.later)
	t.until, t.bytes, t.size = append(t.until, c.until), append(t.bytes, c.bytes), append(t.size, c.size)
	t.attempt, t.oldVersion = append(t.attempt, c.attempt), append(t.oldVersion, c.oldVersion)
	t.changed, t.ended = append(t.changed, c.changed), append(t.ended, c.ended)
	t.revision, t.lines = append(t.revision, int64(row.revision)), append(t.lines, int32(kept(row.lines)))
	t.record = append(t.record, c.record)
}

// kept returns how many of the lines of a journal are kept.
func kept(lines int) int { return min(lines, store.JournalHead+store.JournalTail) }

func (s *Store) flushUpdates(batch *pgx.Batch, w *work) {
	space := s.config.Namespace
	var gone, appended []string
	var lines []int32
	var fresh, changed updateTable
	var names, values, labelled []string
	for _, id := range slices.Sorted(maps.Keys(w.updates)) {
		row := w.updates[id]
		if row.stored && (!row.live || row.remade) {
			gone = append(gone, id)
		}
		switch {
		case !row.live:
		case row.made != nil:
			fresh.add(id, &row, w.seq)
			for _, name := range slices.Sorted(maps.Keys(row.made.Labels)) {
				names, values, labelled = append(names, name), append(values, row.made.Labels[name]), append(labelled, id)
			}
		case row.cells != nil:
			changed.add(id, &row, w.seq)
		case row.added > 0:
			appended, lines = append(appended, id), append(lines, int32(kept(row.lines)))
		}
	}
	if len(gone) > 0 {
		batch.Queue(s.sql(`DELETE FROM otago.firmware_update_labels AS l USING (
				SELECT id, label.* FROM otago.firmware_updates, jsonb_each_text(labels) AS label
				WHERE namespace = $1::text AND id = ANY($2::text[])
			) AS u WHERE l.namespace = $1::text AND l.name = u.key AND l.value = u.value AND l.update_id = u.id`), space, gone)
		batch.Queue(s.sql(`DELETE FROM otago.firmware_updates WHERE namespace = $1::text AND id = ANY($2::text[])`), space, gone)
	}
	if t := &changed; len(t.id) > 0 {
		batch.Queue(s.sql(`UPDATE otago.firmware_updates AS u SET version = n.version, state = n.state, result = n.result,
				outcome = n.outcome, reason = n.reason, phase = n.phase, waiting_for = n.waiting_for,
				waiting_whose = n.waiting_whose, waiting_until = n.waiting_until,
				bytes = n.bytes, size = n.size, attempt = n.attempt, old_version = n.old_version, changed = n.changed, ended = n.ended,
				revision = n.revision, lines = n.lines, record = n.record, later = n.later
			FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::timestamptz[],
				$11::bigint[], $12::bigint[], $13::integer[], $14::text[], $15::timestamptz[], $16::timestamptz[], $17::bigint[],
				$18::integer[], $19::bytea[], $20::text[], $21::text[])
				AS n (id, version, state, result, outcome, reason, phase, waiting_for, waiting_until, bytes, size, attempt, old_version,
					changed, ended, revision, lines, record, waiting_whose, later)
			WHERE u.namespace = $1::text AND u.id = n.id`),
			space, t.id, t.version, t.state, t.result, t.outcome, t.reason, t.phase, t.waiting, t.until, t.bytes, t.size, t.attempt,
			t.oldVersion, t.changed, t.ended, t.revision, t.lines, t.record, t.whose, t.later)
	}
	if t := &fresh; len(t.id) > 0 {
		batch.Queue(s.sql(`INSERT INTO otago.firmware_updates (namespace, since, id, endpoint, image, key, labels, version, state, result,
				outcome, reason, phase, waiting_for, waiting_whose, waiting_until, bytes, size, attempt, old_version, created, changed, ended,
				revision, lines, record, later)
			SELECT $1::text, since, id, endpoint, image, key, labels::jsonb, version, state, result, outcome, reason, phase, waiting_for,
				waiting_whose, waiting_until, bytes, size, attempt, old_version, created, changed, ended, revision, lines, record, later
			FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
				$11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::bigint[], $16::bigint[], $17::integer[], $18::text[],
				$19::timestamptz[], $20::timestamptz[], $21::timestamptz[], $22::bigint[], $23::integer[], $24::bytea[],
				$25::bigint[], $26::text[], $27::text[])
				AS n (id, endpoint, image, key, labels, version, state, result, outcome, reason, phase, waiting_for, waiting_until, bytes,
					size, attempt, old_version, created, changed, ended, revision, lines, record, since, waiting_whose, later)`),
			space, t.id, t.endpoint, t.image, t.key, t.labels, t.version, t.state, t.result, t.outcome, t.reason, t.phase, t.waiting,
			t.until, t.bytes, t.size, t.attempt, t.oldVersion, t.created, t.changed, t.ended, t.revision, t.lines, t.record,
			t.since, t.whose, t.later)
	}
	if len(labelled) > 0 {
		batch.Queue(s.sql(`INSERT INTO otago.firmware_update_labels (namespace, name, value, update_id)
			SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::text[])`), space, names, values, labelled)
	}
	if len(appended) > 0 {
		batch.Queue(s.sql(`UPDATE otago.firmware_updates AS u SET lines = n.lines FROM unnest($2::text[], $3::integer[]) AS n (id, lines)
			WHERE u.namespace = $1::text AND u.id = n.id`), space, appended, lines)
	}
}

// maxFreed is how many keys of removed updates one removal frees at most. It adds one, so that
// their number falls.
const maxFreed = 4

func (s *Store) flushKeys(batch *pgx.Batch, w *work) {
	space := s.config.Namespace
	if len(w.freed) > 0 {
		batch.Queue(s.sql(`DELETE FROM otago.firmware_old_keys WHERE namespace = $1::text AND key IN (
			SELECT key FROM otago.firmware_old_keys WHERE namespace = $1::text AND until <= $2::timestamptz ORDER BY until LIMIT $3::integer)`),
			space, slices.MaxFunc(w.freed, time.Time.Compare), maxFreed*len(w.freed))
	}
	var free, keys, ids []string
	var until []time.Time
	for _, key := range slices.Sorted(maps.Keys(w.oldKeys)) {
		switch old := w.oldKeys[key]; {
		case !old.changed:
		case old.id == "":
			free = append(free, key)
		default:
			keys, ids, until = append(keys, key), append(ids, old.id), append(until, old.until)
		}
	}
	if len(free) > 0 {
		batch.Queue(s.sql(`DELETE FROM otago.firmware_old_keys WHERE namespace = $1::text AND key = ANY($2::text[])`), space, free)
	}
	if len(keys) > 0 {
		batch.Queue(s.sql(`INSERT INTO otago.firmware_old_keys (namespace, key, update_id, until)
			SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::timestamptz[])
			ON CONFLICT (namespace, key) DO UPDATE SET update_id = excluded.update_id, until = excluded.until`), space, keys, ids, until)
	}
}

func (s *Store) flushCounts(batch *pgx.Batch, w *work) {
	var images, outcomes []string
	var by []int64
	order := func(a, b countKey) int { return compareText(a.image, string(a.outcome), b.image, string(b.outcome)) }
	for _, key := range slices.SortedFunc(maps.Keys(w.counts), order) {
		if n := w.counts[key]; n != 0 {
			images, outcomes, by = append(images, key.image), append(outcomes, string(key.outcome)), append(by, int64(n))
		}
	}
	if len(images) > 0 {
		batch.Queue(s.sql(`INSERT INTO otago.firmware_update_counts AS c (namespace, image, outcome, updates)
			SELECT $1::text, * FROM unnest($2::text[], $3::text[], $4::bigint[])
			ON CONFLICT (namespace, image, outcome) DO UPDATE SET updates = c.updates + excluded.updates`), s.config.Namespace, images, outcomes, by)
	}
}

// slim has the arguments of a batch encoded with less garbage: pgx allocates an interface for each
// element of a []string. Without prepared statements pgx derives the database's type from the Go
// type of an argument, and needs the slices as they are.
func slim(batch *pgx.Batch, conn *pgx.Conn) *pgx.Batch {
	switch conn.Config().DefaultQueryExecMode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		return batch
	}
	for _, query := range batch.QueuedQueries {
		for i, arg := range query.Arguments {
			if all, ok := arg.([]string); ok {
				query.Arguments[i] = texts(all)
			}
		}
	}
	return batch
}

// Texts are an array of texts that gives pgx pointers to them.
type texts []string

// Dimensions implements pgtype.ArrayGetter.
func (t texts) Dimensions() []pgtype.ArrayDimension {
	if t == nil {
		return nil
	}
	return []pgtype.ArrayDimension{{Length: int32(len(t)), LowerBound: 1}}
}

// Index implements pgtype.ArrayGetter.
func (t texts) Index(i int) any { return (*text)(&t[i]) }

// IndexType implements pgtype.ArrayGetter.
func (t texts) IndexType() any { return new(text) }

type text string

// TextValue implements pgtype.TextValuer.
func (t *text) TextValue() (pgtype.Text, error) {
	return pgtype.Text{String: string(*t), Valid: true}, nil
}
