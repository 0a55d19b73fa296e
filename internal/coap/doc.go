// Package coap is a CoAP endpoint that can carry firmware: messages, exchanges, block-wise
// transfers and observations, the same over every transport.
//
// One [Endpoint] is client and server at once, as LwM2M needs it. It reads any number of sockets,
// keeps one table of its peers, and serves incoming requests in a bounded pool:
//
//	ep := coap.New(coap.Config{Handler: handler})
//	go ep.ServePacket(ctx, conn)
//
//	resp, err := ep.Do(ctx, peer, &coap.Request{
//		Code:          coap.PUT,
//		Path:          []string{"5", "0", "0"},
//		ContentFormat: coap.FormatOf(42),
//		Body:          image, // an io.ReaderAt, sent by Block1
//		Size:          size,
//	})
//
// # How a message travels
//
// A reader reads a datagram or a frame into a packet and parses it. [Endpoint.receive] then either
// finishes an [exchange] of ours, hands a notification to its [Observation], or passes a request to
// the pool. It never waits: a slow handler, disk or peer delays no other. ARCHITECTURE.md follows a
// datagram from the socket to the handler, file by file.
//
// A message of ours that the peer must answer is an exchange. All retransmissions and other
// deadlines are in one heap, with one timer of the runtime. One message to a peer is unacknowledged
// at a time (NSTART = 1); the others queue in the [outbox], so that a small request can pass
// between two blocks of a transfer.
//
// A request of ours is a [Call] with a [transfer], a value that takes a step at the end of each
// exchange (one for each block) and of each pause. Its steps and callbacks run one after the other
// in a goroutine of the [workers], which ends soon after its work: a waiting request has none. In
// [Endpoint.Do] the caller attends to the call. A transfer that a peer began is an entry in a
// table: an upload goes to a [Sink] or is collected; a download is served from an io.ReaderAt at
// any offset that the peer requests, without the handler, from one copy for all peers.
//
// A lost block is sent again after 2 to 3 s, then after twice that, five times in all (RFC 7252,
// section 4.2). That does not end a transfer: such rounds follow one another until there was no
// progress for [Request.Stall].
//
// # What peers can make us hold
//
// Every limit is a field of [Bounds] or [Config]; these are the defaults. The address of a UDP peer
// may be forged; so each limit applies to all peers together, and no traffic exceeds it.
//
//	what                          bound                        memory, at most
//	peers with any state          1,000,000 (Peers)            0.2 GB, 0.2 KB each
//	duplicates remembered         1,000,000 (DedupEntries)     64 MiB of replies (DedupBytes)
//	                                                           and 60 MB of keys
//	requests in handlers          256 (Workers), 8 per peer    2.6 KB each, and the handler's
//	requests waiting              65,536 (Queue), 32 per peer  1 KB each, and their bytes
//	unfinished Block1 bodies      4096 (Uploads), 4 per peer   64 MiB in memory (UploadBytes)
//	  each in memory              64 KiB (MaxBody)
//	  each since its last block   247 s (UploadIdle)
//	responses kept for Block2     4096 (Downloads), 4 per peer what the handler's Body holds
//	  each since its last block   120 s (DownloadIdle)
//	observations of peers here    10,000 (Observers), 64 per peer
//	                                                           0.3 KB each, one notification
//	notifications for us waiting  16 per observation           2 KB each
//	requests of ours              256 per peer (PeerRequests)  1.3 KB each, and a block of
//	                                                           a push; no goroutine
//	  goroutines with work        2 for each processor, and    2 KB each
//	                              those in callbacks that wait
//	  notices that wait           4 each
//	DTLS handshakes               1000 (Handshakes)            55 KB each
//	  sent by the peer            8 KiB, and 64 KiB once its   three times as much
//	                              address is verified
//	  each from its beginning     60 s
//	DTLS associations             Peers, in all; 8 to 32 of    2.3 KB each, with what a UDP
//	                              one identity                 peer costs
//	                              (IdentitySessions)
//	  records before a session    8 datagrams
//	reports of failed handshakes  100 in a second, 100 at once a goroutine each
//	connections (TCP, TLS)        10,000 (Streams)             a goroutine, and 18 KB of a
//	  silent within a message     30 s                         frame that is not complete
//	  where few files may be open a quarter of them
//	  bytes they do not read      64 MiB (StreamBytes), 256 KiB each; 4 KiB each is free
//	  the peer that reads nothing 30 s
//	options in a message          64
//	a datagram                    2 KiB; larger ones are answered with 4.13
//
// Half of each shared resource is divided equally among five groups: UDP peers whose address may be
// forged (unverified peers), UDP peers that have recently answered a request of ours or an Echo
// challenge, DTLS, TCP and TLS. The other half is first come, first served. Of connections, TCP and
// TLS have a quarter each. So peers of one group cannot lock out those of another. When there is
// one too many:
//
//	peer                  the unverified one that was idle longest is forgotten, and
//	                      with it only the recognition of its duplicates; UDP has
//	                      nine tenths at most
//	duplicate             the oldest are forgotten; those of DTLS have a quarter of
//	                      the room, which UDP cannot use
//	request               over UDP and DTLS it is forgotten without an answer, and
//	                      comes again after 2 s; over TCP and TLS 5.03. Waiting
//	                      requests are served by group in turn
//	unfinished body       an older one of its group is dropped, preferably one with
//	                      its first block only: an unverified peer's after 1 s
//	                      without a block, another after 10 s. If unverified peers
//	                      have more than their share, one of theirs is dropped.
//	                      If there is none to drop: as a request
//	  memory for it       the same, and the block is not answered, or over TCP and
//	                      TLS answered with 5.03
//	response kept         the one of its group that was idle longest is dropped; GET
//	                      and FETCH call the handler again, others get 4.08
//	observation           there is none: the response has no Observe option
//	handshake             see DTLS below
//	association           of an identity: the one that was silent longest ends;
//	                      in all: the handshake fails
//	connection            the oldest of TCP, or TLS, without a request is closed after
//	                      1 s; if there is none, the new one is closed
//	unread bytes          the connection is closed
//	request of ours       ErrBusy
//
// A flood with the address of a peer uses up the limits of that peer only. An unknown peer that
// makes no request costs nothing.
//
// A silent peer costs an entry in a table, but no goroutine, timer or buffer; on a stream, its
// connection with a goroutine and a buffer of 2 KB.
//
// We send the answers to requests with a forged address to that address: up to a block for a
// datagram of some 20 bytes. A handler that returns blocks over UDP without DTLS should return them
// only to peers whose address is verified (see [IncomingRequest.Challenge]). That is not the
// default, because devices in the field do not know Echo and treat the challenge as a refusal.
//
// # DTLS
//
// Package internal/dtls has the sessions, which only protect records: an idle one is only its keys.
// A session is found by the Connection ID in its peer's records, from any address, or else by the
// peer's address.
//
// A ClientHello from a forged address occupies one of the places for handshakes. If there is no
// place, the oldest handshake whose client has not answered with the cookie within half a second
// ends; if there is none, the new ClientHello is not answered. So with 1000 places a flood of 2000
// ClientHellos in a second has no effect; with 10,000, each ClientHello of a device, which repeats
// it after 1, 2, 4 s and so on, is answered with a chance of 1 in 5. If a client returns after its
// handshake was ended, it gets an alert and starts again; a client that has answered keeps its
// place.
//
// A new address of a session gets at most 8 datagrams until a second record comes from there: an
// attacker may have captured the first record, and sent it on to flood that address.
package coap
