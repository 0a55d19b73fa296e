// Package postgres is reserved for a store in a PostgreSQL database, which several servers share.
// It is empty in this version.
package postgres
