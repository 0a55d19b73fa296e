// Package postgres keeps a store in a PostgreSQL database, for those who outgrow a file: other
// programs read its tables with SQL, and a standby goes on where a server ended.
//
//	pool, err := pgxpool.New(ctx, "postgres://ota@db.example.net/ota")
//	if err != nil {
//		return err
//	}
//	defer pool.Close()
//	if err := postgres.Migrate(ctx, pool); err != nil {
//		return err
//	}
//	db, err := postgres.New(pool, postgres.Config{})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//
// # Commits
//
// Commits that come while another is written share the next transaction, and its write to the
// disk. A transaction takes two round trips, however many commits it has: the first reads and locks
// the records that the changes need; then the rules are checked in memory, and a commit that breaks
// one drops out without harm to the others; the second writes the rest, a statement for each table.
//
// The isolation is READ COMMITTED, whatever the default of the database, since all that a rule
// needs is locked or unique: a transaction locks the rows that it changes, in the order of their
// ids, and the images that it starts updates to. One active update for each endpoint, one update
// for each idempotency key, and one image for each name and version are unique indexes.
//
// A transaction that failed without effect, by a deadlock, a conflict with another transaction, or
// a connection that was lost before it was complete, is made again. If the answer to its COMMIT is
// lost, the number of commits in the lease's row says whether it took place. Only if the database
// stays away is that not known: Commit then fails as Store.Commit says, and the caller reads before
// it repeats.
//
// A commit is durable as the database says it is: [New] refuses a pool with synchronous_commit off.
//
// # The journal
//
// Transactions that run at once become visible in any order. So that a reader of the journal misses
// no line, a transaction takes the numbers of its lines from the row of its namespace, as the last
// thing that it does, and holds that row until it is durable.
//
// # The lease
//
// One store writes a namespace at a time. It holds a lease: a row with its node, an epoch, and the
// time until which it is valid, by the clock of the database. [New] fails with a [HeldError] while
// another store holds it; [Standby] waits. A store renews its lease until it is closed. If its
// process dies or stops, another one takes over within [LeaseTime] and two seconds. From then on
// each commit of the first fails with [ErrLost], because its epoch is over: it changes nothing even
// if it wakes up much later. What it sends to devices and callers must end earlier:
// [Store.Holds] says whether the lease is certainly valid, by the clock of the process.
//
// # Poolers
//
// The store needs no session: it works through a pooler in transaction mode. It cannot name
// prepared statements there, so the pool needs default_query_exec_mode=exec in its connection
// string, or exec mode in its configuration; [New] says so.
package postgres
