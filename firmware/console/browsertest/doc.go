// Package browsertest has the tests of package console in a real browser. It is a module of its
// own, so that no user of console has the driver of a browser in a go.mod.
package browsertest
