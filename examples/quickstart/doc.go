// Command quickstart is a whole firmware update on one machine, in one command and half a minute: it starts an update
// server and three devices as processes of their own, uploads an image, updates all three, and shows what happens.
//
//	go run ./examples/quickstart
//
// It listens on free ports of loopback, and leaves nothing behind.
package main
