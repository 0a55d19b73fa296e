// Package soak holds the test that kills: the example server and example clients run as real
// processes, updates go on all the time, and now this one, now that one gets SIGKILL and is started
// again on what it left on the disk. Every update must end, once, with the outcome that the
// device's disk proves.
//
//	go test ./examples/internal/soak                         # a few kills, no pushes
//	OTAGO_SOAK_KILLS=100 go test -v ./examples/internal/soak # a hundred, in about four minutes
//
// OTAGO_SOAK_SEED repeats a run: what is killed, and after which pauses. Where that hits is up to
// the machine.
package soak
