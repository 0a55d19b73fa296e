// Package kv keeps a store's rules once, for every back end that is an ordered map of bytes: what a change checks, which
// indexes it keeps, how the journal is bounded, how queries page. A back end brings a [Backend], a hundred lines or so.
//
// A commit is computed against an overlay over the transaction and written into it only when all of its changes hold, so
// that several commits can share a transaction, and one fsync, without one's refusal undoing the others.
package kv
