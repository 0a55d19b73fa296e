// Command quickstart shows a whole firmware update on one machine, in half a minute: it starts an
// update server and three devices, each in its own process, uploads an image, updates all three
// devices, and prints the progress.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -devices 50 -fail 3
//
// With -devices it shows a rollout instead, which updates so many devices in waves: one, a tenth,
// four tenths, and all. Those of -fail refuse the image. They are in the third wave, so that the
// first two go well. If they are too many, the rollout stops by itself, and the program says why,
// and what an operator would do next.
//
// It listens on free ports of loopback, and removes its files.
package main
