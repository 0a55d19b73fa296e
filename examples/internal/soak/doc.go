// Package soak has a test that kills processes. The example server and example clients run updates
// all the time; the test kills one after another with SIGKILL and starts it again on its disk.
// Every update must end, once, with the outcome that the disk of the device proves.
//
//	go test ./examples/internal/soak                         # a few kills, no pushes
//	OTAGO_SOAK_KILLS=100 go test -v ./examples/internal/soak # a hundred, in about four minutes
//
// OTAGO_SOAK_SEED repeats a run: what is killed, and after which pauses. Where that hits is up to
// the machine.
package soak
