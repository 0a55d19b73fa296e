// Package postgres will keep a store in a PostgreSQL database that several servers share. It is not there yet: the package
// is empty, so that nobody takes another back end for it.
package postgres
