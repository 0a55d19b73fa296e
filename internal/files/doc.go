// Package files says how many files and sockets a process may have open. Each server takes a share,
// so that the connections of one leave files for the others: HTTP an eighth, CoAP over TCP and TLS
// a quarter, connections before their TLS handshake half as much as their server.
package files
