package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/postgres"
)

// A storePlace says which store to open.
type storePlace struct {
	name, data string // of -store and -data
	compact    bool   // that of bolt.Config
	standby    bool   // wait until another server does not have it
	read       bool   // the store must exist, and is not written
}

// openStore opens a store.
func openStore(ctx context.Context, p storePlace, logger *slog.Logger) (backend.Store, error) {
	if p.name == "" {
		p.name = "bolt:" + filepath.Join(p.data, "ota.db")
	}
	kind, place, found := strings.Cut(p.name, ":")
	isPostgres := kind == "postgres" || kind == "postgresql"
	switch {
	case isPostgres:
		return openPostgres(ctx, p, logger)
	case p.standby:
		return nil, cli.Usagef("-standby is for a store in PostgreSQL")
	case kind == "memory" && found && place == "":
		return memory.New(), nil
	case kind != "bolt" || place == "":
		return nil, cli.Usagef("-store %q is neither bolt:FILE, memory: nor postgres://USER@HOST/DATABASE", p.name)
	}
	if !p.read {
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(place); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no database %s", place)
	}
	return bolt.Open(place, bolt.Config{Compact: p.compact})
}

// A pooledStore closes its pool, too.
type pooledStore struct {
	*postgres.Store
	pool *pgxpool.Pool
}

func (s *pooledStore) Close() error {
	defer s.pool.Close()
	return s.Store.Close()
}

// openPostgres opens a store in PostgreSQL. The URL may name a schema and a namespace:
// postgres://ota@db/ota?schema=otago&namespace=tenant.
func openPostgres(ctx context.Context, p storePlace, logger *slog.Logger) (backend.Store, error) {
	at, err := url.Parse(p.name)
	if err != nil {
		return nil, cli.Usagef("-store: %v", err)
	}
	query := at.Query()
	config := postgres.Config{Namespace: query.Get("namespace"), Schema: query.Get("schema"), ReadOnly: p.read}
	query.Del("namespace")
	query.Del("schema")
	at.RawQuery = query.Encode()
	pool, err := pgxpool.New(ctx, at.String())
	if err != nil {
		return nil, cli.Usagef("-store: %v", err)
	}
	db, err := func() (*postgres.Store, error) {
		if p.read {
			return postgres.New(pool, config)
		}
		if p.standby {
			if err := reach(ctx, pool, logger); err != nil {
				return nil, err
			}
		}
		schema := config.Schema
		if schema == "" {
			schema = postgres.DefaultSchema
		}
		if err := postgres.MigrateSchema(ctx, pool, schema); err != nil {
			return nil, err
		}
		db, err := postgres.New(pool, config)
		held, isHeld := errors.AsType[*postgres.HeldError](err)
		switch {
		case isHeld && p.standby:
			logger.Info("standby: waits for the end of another server", "server", held.Node)
			return postgres.Standby(ctx, pool, config)
		case isHeld:
			return nil, fmt.Errorf("%w; -standby waits for its end", err)
		}
		return db, err
	}()
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &pooledStore{db, pool}, nil
}

// reach waits until the database answers, so that a standby may start before it. It fails if the
// database refuses the user, or does not exist.
func reach(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) error {
	for first := true; ; first = false {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // a host that is away may not even refuse
			defer cancel()
			return pool.Ping(ctx)
		}()
		if err == nil {
			return nil
		}
		if refusal, ok := errors.AsType[*pgconn.PgError](err); ok && (strings.HasPrefix(refusal.Code, "28") || strings.HasPrefix(refusal.Code, "3D")) {
			return err
		}
		if first {
			logger.Warn("standby: waits for the database", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// gateOf returns the gate of a store, except in a test that shows what a server without one does.
var gateOf = func(db *postgres.Store) func() bool { return db.Holds }

// guard lets the server send only while it holds a store that others may take over, and keeps the
// images there, too. The context that it returns ends when another server has taken over.
func guard(ctx context.Context, config *backend.Config) (_ context.Context, stop func(), taken func() error) {
	db, ok := config.Store.(*pooledStore)
	if !ok {
		return ctx, func() {}, func() error { return nil }
	}
	gate := gateOf(db.Store)
	config.Server.Gate, config.Web.Gate, config.Blobs = gate, gate, db.Blobs()
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-ctx.Done():
		case <-db.Lost():
			cancel(postgres.ErrLost)
		}
	}()
	return ctx, func() { cancel(nil) }, func() error {
		if err := context.Cause(ctx); errors.Is(err, postgres.ErrLost) {
			return err
		}
		return nil
	}
}
