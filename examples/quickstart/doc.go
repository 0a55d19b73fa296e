// Command quickstart shows a whole firmware update on one machine, in half a minute: it starts an
// update server and three devices, each in its own process, uploads an image, updates all three
// devices, and prints the progress.
//
//	go run ./examples/quickstart
//
// It listens on free ports of loopback, and removes its files.
package main
