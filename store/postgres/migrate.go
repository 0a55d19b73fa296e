package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/otago-iot/otago/store"
)

//go:embed migrations/*.sql
var embedded embed.FS

// latest is the version of the schema that this package reads and writes: the number of the last
// migration.
const latest = 1

// Migrations returns the migrations, for programs that apply them with a tool of their own instead
// of [Migrate]. They are files such as 001_tables.sql, which are run in the order of their names,
// each once and in one transaction. Their names of tables have no schema: set search_path to the
// schema. Each writes its number into the table migrations, where [New] looks it up.
func Migrations() fs.FS {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err) // the name is valid
	}
	return files
}

// Migrate makes the tables in the schema [DefaultSchema], or brings those of an earlier version of
// this package up to date. See [MigrateSchema].
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	return MigrateSchema(ctx, pool, DefaultSchema)
}

// MigrateSchema makes the tables in a schema, or brings them up to date. It makes the schema if
// there is none, for which the role needs the right to CREATE in the database. It is one
// transaction, which waits for others of its kind: several processes may call it at once, and
// through a pooler too. If there is nothing to do it changes nothing.
//
// The error matches store.ErrFormat if a later version of this package has migrated the schema.
func MigrateSchema(ctx context.Context, pool *pgxpool.Pool, schema string) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))", "otago migrations "+schema); err != nil {
			return err
		}
		have, err := version(ctx, tx, schema)
		if err != nil || have == latest {
			return err
		}
		quoted := pgx.Identifier{schema}.Sanitize()
		if have == 0 {
			var exists bool
			err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1::text)", schema).Scan(&exists)
			if err != nil {
				return err
			}
			if !exists {
				if _, err := tx.Exec(ctx, "CREATE SCHEMA "+quoted); err != nil {
					return err
				}
			}
		}
		if _, err := tx.Exec(ctx, "SET LOCAL search_path TO "+quoted); err != nil {
			return err
		}
		return fs.WalkDir(Migrations(), ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			number, _, _ := strings.Cut(name, "_")
			if n, err := strconv.Atoi(number); err != nil || n <= have {
				return err
			}
			script, err := fs.ReadFile(Migrations(), name)
			if err != nil {
				return err
			}
			// Without arguments the simple protocol runs all statements of the file.
			if _, err := tx.Exec(ctx, string(script), pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("postgres: migrate schema %q: %w", schema, explain(err))
	}
	return nil
}

// version returns the number of the last migration of a schema, or 0 if it has no tables.
func version(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, schema string) (n int, err error) {
	var table *string
	name := pgx.Identifier{schema, "migrations"}.Sanitize()
	if err := db.QueryRow(ctx, "SELECT to_regclass($1::text)::text", name).Scan(&table); err != nil || table == nil {
		return 0, err
	}
	if err := db.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+name).Scan(&n); err != nil {
		return 0, err
	}
	if n > latest {
		return 0, fmt.Errorf("%w: schema %q has version %d, this version reads only %d; use the newer version of this module",
			store.ErrFormat, schema, n, latest)
	}
	return n, nil
}

// explain adds the detail of an error of the database, which its text leaves out.
func explain(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Detail != "" {
		return fmt.Errorf("%w: %s", err, pg.Detail)
	}
	return err
}
