package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// runCopy copies a store into another one. Each record is one commit, which a second run finds, so
// that it goes on where the first one ended.
func runCopy(ctx context.Context, args []string, env environment) (err error) {
	flags := cli.NewFlagSet(env.stderr, "server copy", "[flags] FROM TO",
		"copies all records and images of a store into another one, an empty one or one that an earlier copy has begun, and compares both. FROM and TO are places as -store of the server has them. No server may write them meanwhile.")
	data := flags.String("data", "otago-data", "`folder` of the server, for the images of a store that has none itself")
	if err := cli.Parse(flags, args, env.lookup); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return cli.Usagef("copy needs two places, FROM and TO")
	}
	logger := slog.New(slog.DiscardHandler)
	from, err := openStore(ctx, storePlace{name: flags.Arg(0), data: *data, read: true}, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := openStore(ctx, storePlace{name: flags.Arg(1), data: *data}, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	c := &copier{from: from, to: to}
	if c.fromBlobs, c.toBlobs, err = blobsOf(from, to, *data); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.images, c.devices, c.updates, c.rollouts, c.removeImages} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return c.compare(ctx, env.stdout)
}

// blobsOf returns where two stores have the bytes of their images: in the database, or in the
// folder.
func blobsOf(from, to backend.Store, data string) (fromBlobs, toBlobs firmware.Blobs, err error) {
	first, inFirst := from.(*pooledStore)
	second, inSecond := to.(*pooledStore)
	var folder firmware.Blobs
	if !inFirst || !inSecond {
		if folder, err = firmware.OpenFolder(filepath.Join(data, "images")); err != nil {
			return nil, nil, err
		}
	}
	fromBlobs, toBlobs = folder, folder
	if inFirst {
		fromBlobs = first.Blobs()
	}
	if inSecond {
		toBlobs = second.Blobs()
	}
	return fromBlobs, toBlobs, nil
}

// copyParallel is how many commits run at once, which share transactions.
const copyParallel = 64

type copier struct {
	from, to           backend.Store
	fromBlobs, toBlobs firmware.Blobs
	gone               []string // images that updates need, and that were deleted
}

// each copies records, several at once. A record that exists was copied before.
func each[T any](ctx context.Context, records iter.Seq2[T, error], copy func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copyParallel)
	for record, err := range records {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := copy(ctx, record); !errors.Is(err, store.ErrExists) {
				return err
			}
			return nil
		})
	}
	return group.Wait()
}

func (c *copier) images(ctx context.Context) error {
	return each(ctx, c.from.Images(ctx, store.ImageQuery{}), func(ctx context.Context, i store.Image) error {
		if err := c.blob(ctx, i); err != nil {
			return fmt.Errorf("image %s %s: %w", i.Name, i.Version, err)
		}
		_, err := c.to.Commit(ctx, store.CreateImage{Image: i})
		return err
	})
}

// blob copies the bytes of an image, unless they are there.
func (c *copier) blob(ctx context.Context, i store.Image) error {
	if digest, err := digestOf(ctx, c.toBlobs, i.SHA256); err == nil && digest == i.SHA256 {
		return nil
	}
	digest, err := digestOf(ctx, c.fromBlobs, i.SHA256)
	if err == nil && digest != i.SHA256 {
		err = errors.New("its bytes are not those of its digest")
	}
	if err != nil {
		return err
	}
	return c.toBlobs.Put(ctx, i.SHA256, io.NewSectionReader(blobAt{ctx, c.fromBlobs, i.SHA256}, 0, i.Size))
}

func digestOf(ctx context.Context, blobs firmware.Blobs, name string) (string, error) {
	r, err := blobs.Open(ctx, name, 0)
	if err != nil {
		return "", err
	}
	defer r.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// blobAt reads a blob at offsets.
type blobAt struct {
	ctx   context.Context
	blobs firmware.Blobs
	name  string
}

func (b blobAt) ReadAt(p []byte, at int64) (int, error) {
	r, err := b.blobs.Open(b.ctx, b.name, at)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return io.ReadFull(r, p)
}

func (c *copier) devices(ctx context.Context) error {
	return each(ctx, c.from.Devices(ctx, store.DeviceQuery{}), func(ctx context.Context, d store.Device) error {
		_, err := c.to.Commit(ctx, store.PutRegistration{Endpoint: d.Endpoint, Registration: d.Registration},
			store.PutFirmware{Endpoint: d.Endpoint, Firmware: d.Firmware}, store.PutHolds{Endpoint: d.Endpoint, Holds: d.Firmware.Holds},
			store.PutFacts{Endpoint: d.Endpoint, Facts: d.Facts}, store.PutLabels{Endpoint: d.Endpoint, Labels: d.Labels})
		return err
	})
}

// updates copies updates with their journals. An update needs its image, even if that was deleted
// later.
func (c *copier) updates(ctx context.Context) error {
	needed := map[string]bool{}
	counts, err := c.from.Counts(ctx, "")
	if err != nil {
		return err
	}
	for _, count := range counts {
		if needed[count.Image] {
			continue
		}
		needed[count.Image] = true
		_, err := c.from.Image(ctx, count.Image)
		if errors.Is(err, store.ErrNotFound) {
			c.gone = append(c.gone, count.Image)
			_, err = c.to.Commit(ctx, store.CreateImage{Image: store.Image{ID: count.Image, Name: "deleted", Version: count.Image}})
			if errors.Is(err, store.ErrExists) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return each(ctx, c.from.Updates(ctx, store.UpdateQuery{Oldest: true}), func(ctx context.Context, u store.Update) error {
		changes := []store.Change{store.CreateUpdate{Update: u}}
		var lines []store.Event
		for e, err := range c.from.Events(ctx, store.EventQuery{Update: u.ID}) {
			if err != nil {
				return err
			}
			lines = append(lines, e)
		}
		if len(lines) > 0 {
			changes = append(changes, store.AppendEvents{Events: lines})
		}
		_, err := c.to.Commit(ctx, changes...)
		if errors.Is(err, store.ErrDuplicate) { // that key is its own
			if _, there := c.to.Update(ctx, u.ID); there == nil {
				return nil
			}
		}
		return err
	})
}

// removeImages removes what updates needed images for.
func (c *copier) removeImages(ctx context.Context) error {
	for _, id := range c.gone {
		if _, err := c.to.Commit(ctx, store.DeleteImage{ID: id}); err != nil && !errors.Is(err, store.ErrInUse) {
			return err
		}
	}
	return nil
}

func (c *copier) rollouts(ctx context.Context) error {
	return eachRollout(ctx, c.from, func(r store.Rollout) error {
		var lines []store.RolloutEvent
		for e, err := range c.from.RolloutEvents(ctx, store.RolloutEventQuery{Rollout: r.ID}) {
			if err != nil {
				return err
			}
			lines = append(lines, e)
		}
		err := c.to.CommitRollouts(ctx, store.CreateRollout{Rollout: r}, store.AppendRolloutEvents{Rollout: r.ID, Events: lines})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
		var members []store.Member
		put := func() error {
			defer func() { members = members[:0] }()
			return c.to.CommitRollouts(ctx, store.PutMembers{Rollout: r.ID, Members: members})
		}
		for m, err := range c.from.Members(ctx, store.MemberQuery{Rollout: r.ID}) {
			if err != nil {
				return err
			}
			if members = append(members, m); len(members) == 500 {
				if err := put(); err != nil {
					return err
				}
			}
		}
		return put()
	})
}

// compare reads both stores, and says how many records they have.
func (c *copier) compare(ctx context.Context, out io.Writer) error {
	for _, kind := range []struct {
		name string
		sum  func(context.Context, backend.Store) (digest, error)
	}{
		{"images", func(ctx context.Context, db backend.Store) (digest, error) {
			return sum(db.Images(ctx, store.ImageQuery{}), func(*store.Image) {})
		}},
		{"devices", func(ctx context.Context, db backend.Store) (digest, error) {
			return sum(db.Devices(ctx, store.DeviceQuery{}), func(*store.Device) {})
		}},
		{"updates", func(ctx context.Context, db backend.Store) (digest, error) {
			return sum(db.Updates(ctx, store.UpdateQuery{}), func(u *store.Update) { u.Revision, u.Since = 0, 0 })
		}},
		{"journal lines", func(ctx context.Context, db backend.Store) (all digest, err error) {
			for u, err := range db.Updates(ctx, store.UpdateQuery{Oldest: true}) {
				if err != nil {
					return all, err
				}
				d, err := sum(db.Events(ctx, store.EventQuery{Update: u.ID}), func(e *store.Event) { e.Seq = 0 })
				if err != nil {
					return all, err
				}
				all.n, all.sum = all.n+d.n, sha256.Sum256(slices.Concat(all.sum[:], d.sum[:]))
			}
			return all, nil
		}},
		{"rollouts", func(ctx context.Context, db backend.Store) (digest, error) {
			return sum(db.RolloutList(ctx, store.RolloutQuery{}), func(r *store.Rollout) { r.Revision = 0 })
		}},
		{"members of rollouts", func(ctx context.Context, db backend.Store) (all digest, err error) {
			err = eachRollout(ctx, db, func(r store.Rollout) error {
				d, err := sum(db.Members(ctx, store.MemberQuery{Rollout: r.ID}), func(*store.Member) {})
				all.n, all.sum = all.n+d.n, sha256.Sum256(slices.Concat(all.sum[:], d.sum[:]))
				return err
			})
			return all, err
		}},
	} {
		before, err := kind.sum(ctx, c.from)
		if err != nil {
			return err
		}
		after, err := kind.sum(ctx, c.to)
		if err != nil {
			return err
		}
		if before != after {
			return fmt.Errorf("%s: there are %d, and %d in the copy, or they differ", kind.name, before.n, after.n)
		}
		fmt.Fprintf(out, "%d %s are the same, SHA-256 %x\n", after.n, kind.name, after.sum)
	}
	for i, err := range c.from.Images(ctx, store.ImageQuery{}) {
		if err != nil {
			return err
		}
		digest, err := digestOf(ctx, c.toBlobs, i.SHA256)
		if err == nil && digest != i.SHA256 {
			err = fs.ErrInvalid
		}
		if err != nil {
			return fmt.Errorf("bytes of the image %s %s in the copy: %w", i.Name, i.Version, err)
		}
	}
	return nil
}

type digest struct {
	n   int
	sum [sha256.Size]byte
}

// sum returns the digest of records, without what a store sets by itself.
func sum[T any](records iter.Seq2[T, error], clear func(*T)) (d digest, err error) {
	hash := sha256.New()
	encoder := json.NewEncoder(hash)
	for record, err := range records {
		if err != nil {
			return d, err
		}
		clear(&record)
		if err := encoder.Encode(record); err != nil {
			return d, err
		}
		d.n++
	}
	hash.Sum(d.sum[:0])
	return d, nil
}
