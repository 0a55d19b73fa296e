// Package bolt keeps a store in one file, with bbolt. A program with nothing but a disk needs no other database.
//
//	db, err := bolt.Open("ota.db", bolt.Config{})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//
// One process at a time has the file open; [Open] waits a little for its lock and then says so. Commits that come
// together share a transaction and its fsync. A process that dies at any moment leaves the file as the last commit that
// returned left it, or with later ones that had not returned yet.
//
// A file that was cut, or is no database, is refused with [ErrDamaged] and stays as it is: put a copy of it in its place, made
// while no process had it open. A commit that finds the disk full fails with store.ErrNoSpace; the store works on, and takes
// commits again when there is room.
//
// # What is in the file
//
// Each namespace is a bucket, with a bucket per table and index in it. Records are a byte with their format's number,
// then JSON. A later version of this module may add fields without a new number. A file with another number is refused,
// never guessed at.
package bolt
