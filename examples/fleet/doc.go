// Command fleet measures update campaigns: it runs an update server in one process and thousands of
// simulated devices in another, over UDP on loopback, and prints the results and what an update
// costs. It needs Linux.
//
//	go run ./examples/fleet -devices 10000
//	go run ./examples/fleet -devices 4000 -silent 0.3 -compare
//	go run ./examples/fleet -devices 10000 -failing 0.05 -rolling-back 0.05 -lying 0.05 -asleep 0.05
//	go run ./examples/fleet -devices 10000 -other -ended 1000000 -scale 100,1000,10000,100000
//	go run ./examples/fleet -devices 10000 -at-once -kill 0.5 -away 45s
//	go run ./examples/fleet -devices 10000 -rollout -yardstick=false
//
// Beside the server it measures a yardstick in the same way: the least server that can update the
// devices and makes four facts of each update durable. The ratio of the two says more than the
// times, which vary with the machine and with what else runs on it. With -rollout it measures each
// campaign a second time, as a rollout, and compares the two.
//
// # Trials
//
//	go run ./examples/fleet -trial 15 -devices 2000 -failing 0.05 -rolling-back 0.05 -silent 0.2 -asleep 0.1 -timeout 30m
//
// With -trial it measures nothing. It runs one rollout over all devices, with default limits and
// short soaks, and kills the server so often at random, also while the rollout is created. It
// resumes the rollout after each trip, the third time without a limit of bad devices, and stops it
// when every device that answers has its end. Then, and at each trip, the devices' own counts must
// show that none installed twice, none executed what was held, and never more than -at-a-time
// transferred or installed; the counters of the rollout must equal its members, each member that
// waits must have a reason, and none may be missing. With -download 5s devices download for some
// seconds, so that each trip finds some that are held before they have their packages. -seed
// repeats the kills.
//
// # Devices
//
// A device is an LwM2M 1.1 client that sends values as SenML CBOR and notifications in
// non-confirmable messages, downloads its package by HTTP on a connection of its own, is away for
// -restart when it installs it, and changes its address at every other restart. Each has an address
// of its own in 127.0.0.0/8; all share a few sockets. An idle one takes 200 bytes.
//
// What a device does is in its endpoint name, live-000001 for example:
//
//   - live: takes the update.
//   - slow: takes -slow for each answer.
//   - silent: registers and keeps its registration alive, but answers no request.
//   - failing: finds fault with each package (Result 5).
//   - rollback: comes back with its old version, and says so (Result 8).
//   - lying: comes back with its old version, and says that the update succeeded. It takes a minute
//     until the server gives it up.
//   - asleep: in queue mode. It listens for 3 s after each of its messages, and sends one every
//     -sleep.
//
// Every device that answers must come to the outcome of its behaviour within -timeout, and have
// installed each version once. If one does not, or a silent one counts as succeeded, the program
// names it with its journal and exits with status 1.
//
// The program ends by itself and leaves no files behind.
package main
