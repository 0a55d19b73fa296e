// Package otago is the front page of a library for firmware over the air by LwM2M, for both ends of
// an update; the code is in the packages below it.
//
//   - [github.com/otago-iot/otago/lwm2m]: Server, Client and Fetch, over CoAP
//   - [github.com/otago-iot/otago/firmware]: the server's end: Manager, which runs updates;
//     Repository, which keeps images and serves them
//   - [github.com/otago-iot/otago/firmware/device]: the device's end: Device, which takes updates;
//     Installer and Slots, which keep packages and start them
//   - [github.com/otago-iot/otago/firmware/fsm]: the machines behind both, without clock, goroutine
//     or I/O
//   - [github.com/otago-iot/otago/firmware/bundle]: a signed package format, for devices without
//     one
//   - [github.com/otago-iot/otago/firmware/httpapi]: the operators' API, an http.Handler
//   - [github.com/otago-iot/otago/store]: the records, and the back ends memory and bolt
//   - [github.com/otago-iot/otago/tlv], [github.com/otago-iot/otago/senml]: codecs, useful alone
//
// The examples of this page are a whole server and a whole device; examples/server and
// examples/client of the repository are the same with flags, for real use.
package otago
