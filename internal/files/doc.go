// Package files says how many files and sockets a process may have open, for those who share them
// out: without shares whoever opens most connections ends what all others do. A server of HTTP
// takes an eighth, CoAP over TCP and TLS a quarter, clients that have not said hello to TLS half as
// much as the server that waits for them.
package files
