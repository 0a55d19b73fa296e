package postgres

import (
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// Needs are the keys of the rows that a transaction reads and locks.
type needs struct {
	updates, endpoints, keys, images, devices, rollouts set[string]
	deleted                                             set[string] // images
	versions                                            set[imageVersion]
	lines                                               set[uint64]
	limits                                              map[string]int // of DeleteRollout, by rollout
}

type set[K comparable] map[K]struct{}

func (s *set[K]) add(key K) {
	if *s == nil {
		*s = set[K]{}
	}
	(*s)[key] = struct{}{}
}

// list returns the keys in an order that all transactions share, so that they do not lock each
// other.
func list(s set[string]) []string {
	keys := slices.AppendSeq(make([]string, 0, len(s)), maps.Keys(s)) // nil would be null
	slices.Sort(keys)
	return keys
}

func (n *needs) add(c *commit) {
	for _, change := range c.changes {
		switch c := change.(type) {
		case *created:
			n.updates.add(c.update.ID)
			n.images.add(c.update.Image)
			if c.update.Key != "" {
				n.keys.add(c.update.Key)
			}
			if c.update.Active() {
				n.endpoints.add(c.update.Endpoint)
			}
		case *replaced:
			n.updates.add(c.id)
		case store.DeleteUpdate:
			n.updates.add(c.ID)
		case store.AppendEvents:
			for _, e := range c.Events {
				n.updates.add(e.Update)
			}
		case store.CreateImage:
			n.images.add(c.Image.ID)
			n.versions.add(imageVersion{c.Image.Name, c.Image.Version})
		case store.DeleteImage:
			n.images.add(c.ID)
			n.deleted.add(c.ID)
		case store.PutRegistration:
			n.devices.add(c.Endpoint)
		case store.PutFirmware:
			n.devices.add(c.Endpoint)
		case store.PutHolds:
			n.devices.add(c.Endpoint)
		case store.PutFacts:
			n.devices.add(c.Endpoint)
		case store.PutLabels:
			n.devices.add(c.Endpoint)
		case store.DeleteDevice:
			n.devices.add(c.Endpoint)
			n.endpoints.add(c.Endpoint)
		case store.RemoveDamaged:
			switch c.Kind {
			case store.KindUpdate:
				n.updates.add(c.Key)
			case store.KindImage:
				n.images.add(c.Key)
				n.deleted.add(c.Key)
			case store.KindDevice:
				n.devices.add(c.Key)
			case store.KindEvent:
				seq, _ := strconv.ParseUint(c.Key, 10, 64) // Normalize has checked it
				n.lines.add(seq)
			}
		}
	}
	for _, change := range c.rollouts {
		n.addRollout(change)
	}
}

// load queues the queries that read and lock the rows, in an order that all transactions share.
func (s *Store) load(batch *pgx.Batch, n *needs, w *work) {
	space := s.config.Namespace
	if len(n.updates) > 0 {
		batch.Queue(s.sql(`SELECT id, endpoint, image, key, coalesce(outcome, ''), revision, lines, record FROM otago.firmware_updates
			WHERE namespace = $1::text AND id = ANY($2::text[]) ORDER BY id FOR NO KEY UPDATE`), space, list(n.updates)).
			Query(func(rows pgx.Rows) error {
				return each(rows, func() error {
					var id, outcome string
					var data []byte
					row := updateRow{stored: true, live: true}
					err := rows.Scan(&id, &row.endpoint, &row.image, &row.key, &outcome, &row.revision, &row.lines, &data)
					if _, wrong := content(id, data); wrong != nil {
						row.damaged = &store.DamagedError{Kind: store.KindUpdate, Key: id, Err: wrong}
					}
					row.outcome = fsm.Outcome(outcome)
					w.updates[id] = row
					return err
				})
			})
	}
	if len(n.lines) > 0 {
		s.loadLines(batch, n, w)
	}
	if len(n.rollouts) > 0 {
		s.loadRollouts(batch, n, w)
	}
	if len(n.images) > 0 {
		s.loadImages(batch, n, w)
	}
	if len(n.devices) > 0 {
		batch.Queue(s.sql(`SELECT `+deviceFields+`, version, manufacturer, model, hardware FROM otago.devices
			WHERE namespace = $1::text AND endpoint = ANY($2::text[]) ORDER BY endpoint FOR NO KEY UPDATE`), space, list(n.devices)).
			Query(func(rows pgx.Rows) error {
				return each(rows, func() error {
					row := deviceRow{stored: true, live: true}
					f := &row.facts
					var labels string
					var err error
					row.device, row.record, labels, err = scanDevice(rows, &f.version, &f.manufacturer, &f.model, &f.hardware)
					row.damaged = damageOf(&err)
					if row.damaged != nil && row.device.Labels == nil {
						row.device.Labels, _ = parseLabels(labels) // a column of JSON has JSON
					}
					row.labels = row.device.Labels
					w.devices[row.device.Endpoint] = row
					return err
				})
			})
	}
	// What follows is unique, or read only: the rows are not locked.
	if len(n.endpoints) > 0 {
		pairs(batch, s.sql(`SELECT endpoint, id FROM otago.firmware_updates
			WHERE namespace = $1::text AND endpoint = ANY($2::text[]) AND outcome IS NULL`), w.active, space, list(n.endpoints))
	}
	if len(n.keys) > 0 {
		pairs(batch, s.sql(`SELECT key, id FROM otago.firmware_updates WHERE namespace = $1::text AND key = ANY($2::text[]) AND key <> ''`),
			w.keys, space, list(n.keys))
		batch.Queue(s.sql(`SELECT key, update_id, until FROM otago.firmware_old_keys WHERE namespace = $1::text AND key = ANY($2::text[])`),
			space, list(n.keys)).Query(func(rows pgx.Rows) error {
			return each(rows, func() error {
				var key string
				var old oldKey
				err := rows.Scan(&key, &old.id, &old.until)
				w.oldKeys[key] = old
				return err
			})
		})
	}
}

func (s *Store) loadImages(batch *pgx.Batch, n *needs, w *work) {
	space := s.config.Namespace
	// A lock of the same kind as a DELETE takes keeps an update to the image from being created
	// meanwhile; those who create one keep the image from being deleted.
	lock := "KEY SHARE"
	if len(n.deleted) > 0 {
		lock = "UPDATE"
	}
	batch.Queue(s.sql(`SELECT id, name, version, record FROM otago.firmware_images
		WHERE namespace = $1::text AND id = ANY($2::text[]) ORDER BY id FOR `+lock), space, list(n.images)).
		Query(func(rows pgx.Rows) error {
			return each(rows, func() error {
				row := imageRow{stored: true, live: true}
				var data []byte
				err := rows.Scan(&row.image.ID, &row.image.Name, &row.image.Version, &data)
				_, row.damaged = unsealImage(row.image.ID, data)
				w.images[row.image.ID] = row
				return err
			})
		})
	if len(n.versions) > 0 {
		var names, versions []string
		for v := range n.versions {
			names, versions = append(names, v.name), append(versions, v.version)
		}
		batch.Queue(s.sql(`SELECT name, version, id FROM otago.firmware_images
			WHERE namespace = $1::text AND (name, version) IN (SELECT * FROM unnest($2::text[], $3::text[]))`), space, names, versions).
			Query(func(rows pgx.Rows) error {
				return each(rows, func() error {
					var version imageVersion
					var id string
					err := rows.Scan(&version.name, &version.version, &id)
					w.versions[version] = id
					return err
				})
			})
	}
	if len(n.deleted) > 0 {
		pairs(batch, s.sql(`SELECT i.id, u.id FROM unnest($2::text[]) AS i (id), LATERAL (
				SELECT id FROM otago.firmware_updates
				WHERE namespace = $1::text AND image = i.id AND outcome IS NULL AND id <> ALL($3::text[]) LIMIT 1
			) AS u`), w.inUse, space, list(n.deleted), list(n.updates))
	}
}

// loadLines reads the lines that a RemoveDamaged names, and of their updates how many lines they
// have.
func (s *Store) loadLines(batch *pgx.Batch, n *needs, w *work) {
	var seqs []int64
	for _, seq := range slices.Sorted(maps.Keys(n.lines)) {
		if seq <= maxSeq {
			seqs = append(seqs, int64(seq))
		}
	}
	batch.Queue(s.sql(`SELECT `+lineColumns+` FROM otago.firmware_journal
		WHERE namespace = $1::text AND seq = ANY($2::bigint[]) ORDER BY seq FOR UPDATE`), s.config.Namespace, seqs).
		Query(func(rows pgx.Rows) error {
			return each(rows, func() error {
				e, err := scanLine(rows)
				if err == nil || errors.Is(err, store.ErrDamaged) {
					w.lines[e.Seq] = lineRow{update: e.Update, live: true, damaged: err}
					err = nil
				}
				return err
			})
		})
}

// pairs queues a query whose rows are entries of a map.
func pairs(batch *pgx.Batch, sql string, m map[string]string, args ...any) {
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		return each(rows, func() error {
			var key, value string
			err := rows.Scan(&key, &value)
			m[key] = value
			return err
		})
	})
}

// each calls scan for each row.
func each(rows pgx.Rows, scan func() error) error {
	for rows.Next() {
		if err := scan(); err != nil {
			return err
		}
	}
	return rows.Err()
}
