// Package link carries the tunnels between two nodes: one mutual TLS 1.3 connection for each pair of nodes and route, many
// flows in it, and a connection of its own for each flow that moves much.
//
// # The link
//
// TLS 1.3 only, ALPN culvert/link/1, no tickets and so no resumption and no early data. Each side shows a self-signed leaf of
// its node's Ed25519 signing key; nothing in the leaf counts but that key. SNI names the membership that is called:
//
//	<domain 8 hex>.<hash 32 hex>.<hash 32 hex>
//
// The dialler (of the TCP connection; through a relay the one who asked for the tunnel) is the TLS client. Integers are big
// endian. A frame:
//
//	type 1 | flags 1 | length 2 | flow 16 | offset 8 | data (length)
//	flow   = link number 8 (exporter) ‖ counter 8; the counter only grows, so a flow ID never returns. Zero: the link itself.
//	offset = of the data in its direction of the flow; for WINDOW the new limit, for PING and PONG an echoed number, for
//	         DATAGRAM how many its sender had for the flow before, those that he dropped counted
//	flags  = 0, not looked at
//
//	01 HELLO    version 1 | role 1 | request hash 32 | certificate length 2 | Node record
//	02 OPEN     device ID 36 | port 2 | protocol 1       data may follow at once, up to the first window of 64 KiB
//	03 OPENED   –
//	04 REFUSED  reason 1 | text
//	05 DATA     1 to 16,356 bytes
//	06 WINDOW   –      the sender of DATA may go up to offset
//	07 FIN      –      no more bytes in this direction; the other goes on
//	08 RESET    reason 1 | text
//	09 PING     –
//	0a PONG     –
//	0b BULK     –      from offset on this direction goes on in the flow's own connection
//	0c GOAWAY   reason 1 | text     the link closes
//	0d DATAGRAM 0 to 16,356 bytes     one whole datagram of a flow of protocol 17
//	0e MEET     token 32     join me at the relay of this link by this token: the flow's own connection
//	0f NEWS     –      I may be reached better by now: look for another route
//	10          reserved: RESUME
//	11          reserved: RESUMED
//
// A link runs over TLS on TCP, or over the first stream of a QUIC connection (package quicconn): then the TLS is QUIC's own
// (RFC 9001), of the same version, ALPN, leaves and SNI, again without tickets and early data, the dialler is QUIC's client,
// and frames, HELLOs and keys are the same. Where this text says TLS it means either.
//
// Unknown types are skipped, fields that a later version appends are ignored. HELLO is the first frame each way, the
// client's first; its record must be certified and its ID must be that of the key that TLS proved. A later HELLO on a living
// link brings a renewed certificate of the same node. Only the user's side opens flows.
//
// Every flow has a window each way; a reader that stalls stops its own flow's sender and nobody else, and a link never holds
// more than its budget of unread bytes. The read loop waits for no flow. A window grows from 64 KiB to 4 MiB while what comes is
// read at once, as long as the link may grant it, so that a long path is filled also where a flow has no connection of its own;
// that one has the windows of TCP, which the system fits to the path: nothing is set that would keep it from that.
//
// A flow of protocol 17 carries DATAGRAMs instead of DATA, has no window and no connection of its own, and ends with FIN both
// ways like the others. Nobody waits for a datagram: where a queue is full, at either end, it is dropped and counted.
//
// # How bytes move
//
// A busy direction reads up to 16 KiB at once and seals that; what comes in more, and leaves within milliseconds, is taken four
// times as much at once, up to 64 KiB on the link and 256 KiB in a connection of the flow's own: a short record is there sooner
// and holds nobody up, a long one costs less. Buffers are borrowed while there is something to read, and shared by all links; a
// record is read, sealed or opened, and written in the same one. What comes for a device or a program is written from the read
// loop itself, where its socket takes it without waiting; only a flow whose socket lags, or that has a connection of its own,
// has a goroutine for that direction. Frames that are ready together share one write.
//
// # Life and death
//
// An end that said something and hears nothing for Ask says PING, at once where it has reason to; after Suspect without any
// frame new flows are better opened elsewhere, after Answer the link is dead and its flows are reset. While flows are in use
// both ends ask after Busy of silence, so that a NAT on either side that lost its table is opened from the inside; else after
// Idle.
//
// # Room for flows that move
//
// A flow that outlives its link would go on in another link of the same two nodes by
//
//	10 RESUME   flow = the old ID, offset = how many bytes of the other direction have been taken | proof 32
//	11 RESUMED  flow = the old ID, offset = the same of the answering side
//
// each end sending again from the offset that it was told: an ID names its flow for ever, and offsets count from its OPEN.
// The proof would be made with a key of the old link's exporter. Nobody sends these yet.
//
// # A flow's own connection
//
// When a flow has moved a megabyte the dialler of the link dials a second connection, or opens a further stream of the link's
// QUIC connection, and proves itself without a handshake:
//
//	preface   09 | flow 16 | proof 32
//	record    kind 1 | length 3 | AES-256-GCM ciphertext (length) | tag 16
//	kinds     01 READY  empty, the first record each way
//	          02 DATA   1 to 262,144 bytes
//	          03 FIN    empty, the last record of its direction
//
// The acceptor answers the preface with READY, the dialler answers READY with READY, and only then may either side say BULK
// on the link and go on in records. If the second connection does not come up the flow stays on the link. Directions switch
// independently. A RESET always travels on the link.
//
//	secret    = TLS exporter("EXPORTER-culvert-bulk", context = SHA-256(client HELLO data ‖ server HELLO data), 32)
//	number    = first 8 bytes of TLS exporter("EXPORTER-culvert-link", context as above, 32)
//	proof     = HMAC-SHA-256(key = HKDF-Expand(secret, "culvert 1 bulk proof" ‖ flow), "culvert 1 bulk" ‖ flow)
//	traffic 0 = HKDF-Expand(secret, "culvert 1 bulk traffic" ‖ flow ‖ direction), direction 0 from the dialler, 1 to it
//	key n     = HKDF-Expand(traffic n, "culvert 1 bulk key"); traffic n+1 = HKDF-Expand(traffic n, "culvert 1 bulk next")
//	nonce     = 0 (4 bytes) ‖ number of the record in its direction (8); AD = the 4 bytes of record header
//	the traffic secret steps on every 2^20 records
//
// # Why this is safe
//
// Keys and nonces. A traffic key belongs to one flow ID, one direction, one TLS connection. The exporter differs between TLS
// connections; the accepting side takes only growing counters, so an ID opens once a link; each flow takes one proven
// preface in its life, and the dialler sends one. So no key ever seals two different records under one nonce. A key seals at most 2^20
// records of 2^18 bytes, 2^34 blocks, which is what RFC 8446 allows AES-GCM.
//
// Replay. Frames live inside TLS. A replayed OPEN has a counter that does not grow and ends the link. A recorded preface is
// refused because its flow has had one; recorded records fail because the counter is in the nonce. A link rests on the hash
// of one signed, fresh TunnelRequest that the accepting side has answered and that is spent with the first HELLO.
//
// Truncation. On the link every direction ends in FIN inside TLS, on its own connection in an authenticated FIN record; an
// end without it is an error and resets both sockets. The same holds for the end of a QUIC stream or connection, which says
// nothing about a flow.
//
// QUIC. The exporter is that of the connection's one TLS handshake, so a further stream has keys of its flow, and nothing of
// another connection, or of a stream of another flow, fits. That its records are sealed once more beneath QUIC's own protection
// costs little and keeps one construction for all routes. A recorded packet is refused by QUIC's packet numbers; a preface on a
// stream belongs to this connection's link or is refused. Reset streams and lost streams end their flow with an error.
//
// Authorisation. The exporter's context is the hash of both HELLOs, so the keys of every second connection depend on both
// certificates and on the request's hash. TLS proves the keys, the operator chain the certificates, the request's hash why
// the link exists; which device and port a flow reaches is decided for every OPEN anew, by the tunnel side's guard.
//
// A relay, or anybody on the path, who takes a preface and races it with a connection of his own gets READY, cannot answer
// it, and has stopped the flow's promotion and nothing else: the flow stays on the link.
package link
