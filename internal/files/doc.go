// Package files reports how many files and sockets a process may have open. Each server takes a
// share, so that its connections leave files for others: HTTP an eighth, CoAP over TCP and TLS a
// quarter, and connections before their TLS handshake half of their server's share.
package files
