// Package dtls provides the DTLS 1.2 sessions of a UDP socket, which is a server socket for many
// clients, or the socket of a client with one server. It knows datagrams, addresses and identities,
// and nothing of what the records carry.
//
// pion/dtls makes the handshakes, each in goroutines of its own. After a handshake the package
// takes over pion's state and protects the records itself, so that an idle [Session] has neither a
// goroutine nor a buffer. doc/dtls.md describes the division of work, possible attacks, and the
// tests.
//
// [Socket.Serve] (socket.go) receives a datagram, and finds by Connection ID or by address
//
//   - a session (session.go): it decrypts each record (record.go, cipher.go), drops replays,
//     follows the peer to a new address, and calls [Receiver.Receive] with the content; or
//   - a handshake (handshake.go): pion reads the datagram through a [net.PacketConn] (pipe.go). At
//     its end, result.go compares pion's state with what went over the wire (secret.go), places.go
//     puts the session into the tables, and [Handler.Open] returns the receiver of its records; or
//   - nothing: a ClientHello then begins a handshake, if there is room for one (hello.go).
package dtls
