// Package store says what a firmware campaign must remember, and how a database is asked to remember it.
//
// The records are plain: an [Update] is one image on its way to one endpoint, an [Image] is one version of firmware, a
// [Device] is what is known of one endpoint, and an [Event] is a line of the journal that tells what happened. A [Store]
// keeps the records of one namespace (one tenant); it has one method that writes, [Store.Commit], and readers.
//
// Everything that must hold together is one commit: a step of an update and the journal lines that explain it become
// durable together or not at all. Two rules are the store's own, because only it can keep them when many callers write at
// once: an endpoint has at most one active update ([ErrActive]), and an image that an active update needs cannot be
// deleted ([ErrInUse]).
//
// A record that cannot be read ([ErrDamaged]) is a matter of that record alone: the others stay in reach, and
// [RemoveDamaged] takes it out.
//
// Package memory keeps records for tests and trials, package bolt keeps them in one file, package postgres in a PostgreSQL
// database. Who writes another back end implements Store in one file and runs storetest.Run against it; nothing here, nor
// anything that it imports, knows CoAP or LwM2M on the wire.
package store
