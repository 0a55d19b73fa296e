//go:build unix

package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/postgres"
)

// A cutter breaks a connection at a COMMIT: before the database gets it, or before its answer comes
// back.
type cutter struct {
	armed atomic.Int32 // how many COMMITs from now on
	after bool
	cuts  atomic.Int32
}

type cutConn struct {
	net.Conn
	cutter *cutter
	cut    atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("COMMIT\x00")) && c.cutter.armed.Load() > 0 && c.cutter.armed.Add(-1) == 0 {
		c.cutter.cuts.Add(1)
		if !c.cutter.after {
			c.Conn.Close()
			return 0, net.ErrClosed
		}
		c.cut.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b) // the answer has come, and so the transaction has taken place
	if c.cut.Load() {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestAnswerLost breaks the connection at the COMMIT of a transaction: the commit takes place once,
// and Commit says so.
func TestAnswerLost(t *testing.T) {
	shared(t)
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("after ", after), func(t *testing.T) {
			cut := &cutter{after: after}
			pool := poolOf(t, sharedURL, func(config *pgxpool.Config) {
				config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // so that the COMMIT can be seen
				dial := config.ConnConfig.DialFunc
				config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dial(ctx, network, address)
					return &cutConn{Conn: conn, cutter: cut}, err
				}
			})
			db, err := postgres.New(pool, postgres.Config{Namespace: fmt.Sprint("answer lost ", after)})
			require.NoError(t, err)
			_, err = db.Commit(t.Context(), store.CreateImage{Image: store.Image{ID: "i", Version: "1"}})
			require.NoError(t, err)
			for n := range 5 {
				u := store.Update{ID: fmt.Sprint("u", n), Endpoint: fmt.Sprint("ep", n), Image: "i", Machine: fsm.NewUpdate(fsm.Plan{}, time.Now())}
				cut.armed.Store(1)
				seq, err := db.Commit(t.Context(), store.CreateUpdate{Update: u}, line(u, "created"), line(u, "more"))
				require.NoError(t, err)
				require.EqualValues(t, 2*n+2, seq)
				got, err := db.Update(t.Context(), u.ID)
				require.NoError(t, err)
				require.EqualValues(t, 2*n, got.Since)
				span, err := db.Span(t.Context())
				require.NoError(t, err)
				require.Equal(t, seq, span.Last)
			}
			require.EqualValues(t, 5, cut.cuts.Load())
			require.NoError(t, db.Close())
		})
	}
}

// An interrupter calls a function, once, when a transaction is about to write its changes.
type interrupter struct {
	net.Conn
	call *atomic.Pointer[func()]
}

func (c *interrupter) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("SET commits = commits + 1")) {
		if call := c.call.Swap(nil); call != nil {
			(*call)()
		}
	}
	return c.Conn.Write(b)
}

// TestTakenInTheMiddle lets another store take the lease, and write, between the two halves of a
// transaction: the transaction then has no effect.
func TestTakenInTheMiddle(t *testing.T) {
	other := shared(t)
	var call atomic.Pointer[func()]
	pool := poolOf(t, sharedURL, func(config *pgxpool.Config) {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // so that the statement can be seen
		dial := config.ConnConfig.DialFunc
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return &interrupter{conn, &call}, err
		}
	})
	config := postgres.Config{Namespace: "taken in the middle"}
	first, err := postgres.New(pool, config)
	require.NoError(t, err)
	postgres.Abandon(first)
	var second *postgres.Store
	version := func(v string) store.Change {
		return store.PutFirmware{Endpoint: "ep", Firmware: store.Firmware{Version: v}}
	}
	call.Store(new(func() {
		_, err := other.Exec(background, "UPDATE otago.leases SET expires = clock_timestamp() - interval '1s' WHERE namespace = $1", config.Namespace)
		require.NoError(t, err)
		second, err = postgres.New(other, config)
		require.NoError(t, err)
		_, err = second.Commit(background, version("second"))
		require.NoError(t, err)
	}))
	_, lost := first.Commit(t.Context(), version("first"))
	require.NotNil(t, second)
	d, err := second.Device(t.Context(), "ep")
	require.NoError(t, err)
	require.Equal(t, "second", d.Firmware.Version, "the one that took over has the last word")
	require.ErrorIs(t, lost, postgres.ErrLost)
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
}
