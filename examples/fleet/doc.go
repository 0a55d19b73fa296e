// Command fleet measures an update campaign: it runs an update server in one process and thousands
// of simulated devices in others, over UDP sockets on loopback, and prints the results and the cost
// of the campaign.
//
//	go run ./examples/fleet -devices 2000 -silent 0.3
//	go run ./examples/fleet -devices 40000 -silent 0.3 -timeout 30m
//	go run ./examples/fleet -devices 2000 -silent 0.3 -compare
//
// Beside the server it measures a yardstick in the same way: the least server that can update the
// devices and makes the same four facts of each update durable. The ratio of the two says more
// than the times, which vary with the machine and with what else runs on it.
//
// A silent device registers and keeps its registration alive, but answers no request of the server.
// A live device must succeed within -timeout. If one does not, or a silent one counts as succeeded,
// the program names it and exits with status 1.
//
// Each device has a socket of its own. If there are more devices than one process may have open
// files, several processes share them. Each process uses its own address, 127.0.0.1, 127.0.0.2 and
// so on, which only Linux provides by default. The program raises the limit of open files as far as
// possible, and says if that is not enough.
//
// It ends by itself and leaves no files behind.
package main
