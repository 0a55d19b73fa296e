// Package soak has a test that kills processes. The example server and example clients run updates
// all the time; the test kills one process after another with SIGKILL and restarts it on its disk.
// Every update must end once, with the outcome that the device's disk proves.
//
//	go test ./examples/internal/soak                         # a few kills, no pushes
//	OTAGO_SOAK_KILLS=100 go test -v ./examples/internal/soak # a hundred, in about four minutes
//
// OTAGO_SOAK_POSTGRES_KILLS is the number of those beside a store in PostgreSQL, where each kill of
// the server takes the rest of its lease.
//
// OTAGO_SOAK_SEED repeats a run: which processes are killed, and the pauses in between. What a kill
// interrupts depends on the machine.
package soak
