package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/group"
)

// Defaults of [Config].
const (
	DefaultNamespace = "otago"
	DefaultSchema    = "otago"
)

// Config says how to open a store. The zero Config works.
type Config struct {
	// Namespace keeps the records apart from those of other namespaces in the same tables, such as
	// those of another tenant. Default: DefaultNamespace.
	Namespace string
	// Schema has the tables. Default: DefaultSchema.
	Schema string
	// Node names this process, for those who look into the table of leases or get a HeldError.
	// Default: the name of the host, and the number of the process.
	Node string
	// ReadOnly opens a store that takes no lease, beside the one that writes, for reports and
	// copies. Its Commits fail, and it never Holds the namespace.
	ReadOnly bool
}

func (c Config) withDefaults() (Config, error) {
	c.Namespace, c.Schema = cmp.Or(c.Namespace, DefaultNamespace), cmp.Or(c.Schema, DefaultSchema)
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		c.Node = fmt.Sprint(host, "/", os.Getpid())
	}
	for what, name := range map[string]string{"namespace": c.Namespace, "schema": c.Schema, "node": c.Node} {
		if wrong := names.Check(name, 1, store.MaxName); wrong != "" {
			return c, fmt.Errorf("postgres: %s %s", what, wrong)
		}
	}
	return c, nil
}

// A Store is a [store.Store] and a [store.Rollouts] in one namespace of a database.
type Store struct {
	pool   *pgxpool.Pool
	config Config
	schema string // quoted, with a full stop

	queue *group.Queue[*commit]
	lease lease
	ends  store.Commits

	unfenced bool // commits do not look whose the namespace is: a test shows what that does
}

// openTime bounds New, apart from Standby's wait.
const openTime = 30 * time.Second

// New returns the store of a namespace, and takes its lease. The tables must be there: see
// [Migrate]. The pool stays the caller's, who closes it after the store. The store uses one
// connection for commits, one now and then for the lease, and one for each query that runs.
//
// The error is a *HeldError if another store has the namespace; [Standby] waits for its end. It
// matches store.ErrFormat if another version of this module wrote the tables. New also refuses a
// pool whose commits are not durable, and one that names prepared statements behind a pooler.
func New(pool *pgxpool.Pool, config Config) (*Store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	return open(ctx, pool, config)
}

// Standby waits until no other store has the namespace, and then returns as [New] does: at once
// after a Close, and within [LeaseTime] and two seconds after the end of the other process. While
// the database is away it waits too. It ends when ctx does.
func Standby(ctx context.Context, pool *pgxpool.Pool, config Config) (*Store, error) {
	for {
		s, err := func() (*Store, error) {
			ctx, cancel := context.WithTimeout(ctx, openTime)
			defer cancel()
			return open(ctx, pool, config)
		}()
		if _, held := errors.AsType[*HeldError](err); err == nil || !held && !temporary(err) {
			return s, err
		}
		if pause(ctx, standbyPause()); ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func open(ctx context.Context, pool *pgxpool.Pool, config Config) (*Store, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{pool: pool, config: config, schema: pgx.Identifier{config.Schema}.Sanitize() + "."}
	s.queue = group.New(s.writeGroup)
	if err = s.check(ctx); err == nil && !config.ReadOnly {
		err = s.acquire(ctx)
	}
	if err != nil {
		if held, ok := errors.AsType[*HeldError](err); ok {
			return nil, held
		}
		return nil, fmt.Errorf("postgres: open namespace %q: %w", config.Namespace, explain(err))
	}
	return s, nil
}

// check looks whether the store can work with the database as the pool reaches it.
func (s *Store) check(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var pid uint32
	var durable string
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid(), current_setting('synchronous_commit')", pgx.QueryExecModeSimpleProtocol).Scan(&pid, &durable); err != nil {
		return err
	}
	if durable == "off" {
		return errors.New("synchronous_commit is off: a commit would not be durable; ALTER ROLE ... SET synchronous_commit = on")
	}
	mode := conn.Conn().Config().DefaultQueryExecMode
	if pid != conn.Conn().PgConn().PID() && mode != pgx.QueryExecModeExec && mode != pgx.QueryExecModeSimpleProtocol {
		return fmt.Errorf("there is a pooler before the database, and the pool names prepared statements, which it may not pass on; " +
			"add default_query_exec_mode=exec to the connection string")
	}
	have, err := version(ctx, conn, s.config.Schema)
	if err == nil && have < latest {
		err = fmt.Errorf("the tables of schema %q have version %d, not %d: call Migrate first", s.config.Schema, have, latest)
	}
	return err
}

// sql returns a text of SQL for the schema.
func (s *Store) sql(text string) string {
	if s.config.Schema == DefaultSchema {
		return text
	}
	return strings.ReplaceAll(text, "otago.", s.schema)
}

// readTime bounds how long a query is made again while the database is away. When it comes back,
// the connections that the pool holds are broken, and each fails once.
const readTime = 2 * time.Second

// read runs a function that only reads.
func (s *Store) read(ctx context.Context, fn func(context.Context) error) error {
	if err := s.queue.Enter(ctx); err != nil {
		return err
	}
	defer s.queue.Leave()
	for began := time.Now(); ; {
		err := fn(ctx)
		if err == nil || time.Since(began) > readTime || ctx.Err() != nil || !temporary(err) {
			return explain(err)
		}
		pause(ctx, retryPause)
	}
}

// pause waits until ctx ends or the time is over.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Close implements store.Store. It gives the lease back, so that another store can take it at once.
// The pool stays open.
func (s *Store) Close() error {
	return s.queue.Close(func() error {
		if !s.config.ReadOnly {
			s.release()
		}
		return nil
	})
}

// temporary reports whether an error is of the connection, or one that passes: the same call may
// work again.
func temporary(err error) bool {
	if err == nil {
		return false
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return connectionLost(err)
	}
	switch pg.Code {
	case "40001", "40P01", // conflicts of transactions
		lockTimeout,
		"57014",                   // statement_timeout
		"25006",                   // the server is a replica, as before a failover
		"25P03",                   // idle_in_transaction_session_timeout
		"53300",                   // too many connections
		"57P01", "57P02", "57P03": // the server stops, or starts
		return true
	}
	return strings.HasPrefix(pg.Code, "08")
}

// connectionLost reports whether an error is none of the database's answers: the connection broke,
// or there was none.
func connectionLost(err error) bool {
	if _, ok := errors.AsType[*pgconn.PgError](err); ok {
		return false
	}
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	_, timeout := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return connect || timeout || pgconn.SafeToRetry(err) || isClosed(err)
}
