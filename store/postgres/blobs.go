package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/jackc/pgx/v5"

	"github.com/otago-iot/otago/store"
)

// Blobs keeps the bytes of images in the database: it is a firmware.Blobs, for
// firmware.NewRepository, whose Spool is the copy that devices read. So a standby has all images.
// Put is one transaction, which a slow upload keeps open; images are meant to be megabytes, not
// gigabytes.
type Blobs struct{ store *Store }

// Blobs returns the bytes of the images of the namespace. They are of use until the store is closed
// or loses its lease; then Put and Delete fail.
func (s *Store) Blobs() *Blobs { return &Blobs{s} }

// pieceSize is how many bytes of an image are in a row.
const pieceSize = 256 << 10

// Put implements firmware.Blobs.
func (b *Blobs) Put(ctx context.Context, digest string, body *io.SectionReader) error {
	return b.write(ctx, func(tx pgx.Tx) error {
		if err := b.delete(ctx, tx, digest); err != nil {
			return err
		}
		piece := make([]byte, pieceSize)
		for n, at := 0, int64(0); n == 0 || at < body.Size(); n++ {
			size := min(int64(pieceSize), body.Size()-at)
			if _, err := body.ReadAt(piece[:size], at); err != nil && !(errors.Is(err, io.EOF) && at+size == body.Size()) {
				return err
			}
			_, err := tx.Exec(ctx, b.store.sql(`INSERT INTO otago.firmware_blobs (namespace, digest, piece, size, data)
				VALUES ($1::text, $2::text, $3::integer, $4::bigint, $5::bytea)`), b.store.config.Namespace, digest, n, body.Size(), piece[:size])
			if err != nil {
				return err
			}
			at += size
		}
		return nil
	})
}

// Delete implements firmware.Blobs.
func (b *Blobs) Delete(ctx context.Context, digest string) error {
	return b.write(ctx, func(tx pgx.Tx) error { return b.delete(ctx, tx, digest) })
}

func (b *Blobs) delete(ctx context.Context, tx pgx.Tx, digest string) error {
	_, err := tx.Exec(ctx, b.store.sql(`DELETE FROM otago.firmware_blobs WHERE namespace = $1::text AND digest = $2::text`),
		b.store.config.Namespace, digest)
	return err
}

// write runs fn in a transaction, which takes place only if the store holds its namespace.
func (b *Blobs) write(ctx context.Context, fn func(pgx.Tx) error) error {
	s := b.store
	if err := s.queue.Enter(ctx); err != nil {
		return err
	}
	defer s.queue.Leave()
	if s.config.ReadOnly {
		return errReadOnly
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		var epoch uint64
		err := tx.QueryRow(ctx, s.sql(`SELECT epoch FROM otago.leases WHERE namespace = $1::text FOR SHARE`), s.config.Namespace).Scan(&epoch)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && epoch != s.lease.epoch && !s.unfenced {
			return ErrLost
		}
		return err
	})
	if errors.Is(err, ErrLost) {
		s.lose()
	}
	return explain(err)
}

// Open implements firmware.Blobs.
func (b *Blobs) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	r := &blobReader{ctx: ctx, blobs: b, digest: digest, at: offset}
	if err := r.fill(); err != nil {
		return nil, err
	}
	return r, nil
}

// A blobReader reads a blob piece by piece, and holds no connection meanwhile.
type blobReader struct {
	ctx    context.Context
	blobs  *Blobs
	digest string
	at     int64 // of the byte after data
	size   int64
	data   []byte
}

// fill reads the piece of at.
func (r *blobReader) fill() error {
	s := r.blobs.store
	data, err := one(r.ctx, s, s.sql(`SELECT data, size FROM otago.firmware_blobs
		WHERE namespace = $1::text AND digest = $2::text AND piece = $3::integer`),
		[]any{s.config.Namespace, r.digest, r.at / pieceSize}, func(row pgx.Row) (data []byte, err error) {
			return data, row.Scan(&data, &r.size)
		})
	skip := r.at % pieceSize
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("postgres: blob %s: %w", r.digest, fs.ErrNotExist)
	case err != nil:
		return err
	case skip > int64(len(data)):
		return fmt.Errorf("postgres: blob %s: a piece is short: %w", r.digest, io.ErrUnexpectedEOF)
	}
	r.data = data[skip:]
	r.at += int64(len(r.data))
	return nil
}

// Read implements io.Reader.
func (r *blobReader) Read(b []byte) (int, error) {
	if len(r.data) == 0 {
		if r.at >= r.size {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.data)
	r.data = r.data[n:]
	return n, nil
}

// Close implements io.Closer.
func (*blobReader) Close() error { return nil }
