// Package protocol is what culvert's nodes say to each other: IDs, keys' use, records, messages and sessions. It is pure: no
// sockets, no clock, no goroutines; time and randomness are arguments. This page is the specification.
//
// All integers are big endian. ‖ joins bytes. A datagram of any form has at most 1,200 bytes. Every unused or reserved bit is
// zero and checked to be. Wire version 1 has one set of ciphers and no negotiation: Ed25519, X25519, HKDF-SHA-256,
// AES-256-GCM, HMAC-SHA-256 (its first 16 bytes), and XChaCha20-Poly1305 for cookies.
//
// # Identifiers
//
//	ID           36   domain 4 ‖ hash 32
//	node         hash = SHA-256(Ed25519 public key), domain of its organisation
//	operator     hash = SHA-256(Ed25519 public key), domain 0
//	position      8   the first 8 bytes of an ID: ranges of the key space are cut over it
//
// Ed25519 keys that are no canonical point, or of small order, are refused in every certificate; X25519 results of zero
// (low-order points) are errors.
//
// # Signed message (first byte 4): n bytes, 190 ≤ n ≤ 1,200
//
//	 0      1  type       4
//	 1      1  version    1
//	 2      1  command    Command
//	 3      1  flags      1 reply ‖ 2 payload readable
//	 4     36  receiver   ID
//	40     36  sender     ID
//	76      8  timestamp  ms since 1970, sender's clock
//	84      8  message ID 44 bits or more drawn at random by who asks; a reply echoes it
//	92         payload    see below
//	n−96   64  signature  Ed25519 by the sender over "culvert 1 message\x00" ‖ bytes 0 to n−96
//	n−32   16  mac1       HMAC keyed by SHA-256("culvert 1 mac1\x00" ‖ hash of receiver's ID) over bytes 0 to n−32
//	n−16   16  mac2       zero, or HMAC keyed by the receiver's cookie over bytes 0 to n−16
//
// Plain payload, the same in both forms: length 2 ‖ MessagePack text of that length ‖ zeros up to the end.
//
//	readable (flag 2; exactly GetNode, Node, OpenSession, SessionOpened): the plain payload
//	sealed   (all other commands): ephemeral X25519 public key 32 ‖ AES-256-GCM ciphertext ‖ tag 16
//	         key = HKDF(X25519(ephemeral, receiver's sealing key), salt = ephemeral ‖ receiver's sealing key,
//	         info = "culvert 1 payload"), nonce zero (the key is used once), associated data = bytes 0 to 92
//
// The transcript of a message is SHA-256 over its bytes 0 to n−32: what other messages and links are bound to.
//
// Requests are padded, so that no answer is longer than its question: to 1,200 bytes for GetNode, GetOperatorNodes,
// GetSuperNodes, GetNodeInfo, GetTunnelNodes, GetEndDevices, GetRevocations, Digest, Repair, OpenSession and
// ForwardedTunnelRequest, to 512 for SubmitSuperNode and TransferPartition, to 400 for TunnelRequest, to 276 for all others. Replies are not padded.
//
// # Sealed message (first byte 5): n bytes, 46 ≤ n ≤ 1,200
//
//	 0      1  type       5
//	 1      1  version    1
//	 2      2  reserved   0
//	 4      8  index      of the receiver
//	12      8  counter    1, 2, 3 … of the sender; the nonce is 4 zero bytes ‖ counter
//	20         AES-256-GCM ciphertext ‖ tag 16, associated data = bytes 0 to 20, of
//	           command 1 ‖ flags 1 (1 reply) ‖ message ID 8 ‖ MessagePack text up to the end
//
// # Bundle (first byte 10): n bytes, 60 ≤ n ≤ 1,200: several messages of one session that leave at one time
//
//	 0      1  type       10
//	 1     19             as in a sealed message, of the same counters
//	20         AES-256-GCM ciphertext ‖ tag 16, associated data = bytes 0 to 20, of two messages or more, each
//	           length 2 ‖ as many bytes, 10 at least, as a sealed message has them in its ciphertext
//
// The last message ends where the ciphertext does, or the whole bundle is dropped; so is one of a single message, which has the
// other form. Each message in a bundle stands for itself: one that is refused is counted and costs the others nothing. A bundle
// holds what is ready at one time to one peer at one address. Nothing waits for another message so as to fill one.
//
// A receiver takes each counter once and none that is 2,048 or more behind the highest; its window moves only after the tag
// was right. OpenSession, SessionOpened, SubmitSuperNode, TunnelRequest, RelayJoin and TransferPartition are never accepted
// in a session: what changes state carries a signature.
//
// # Opening a session
//
//	initiator                                  responder
//	OpenSession  {ephemeral, index, Node record}     →
//	             ←  SessionOpened {ephemeral, index, transcript of OpenSession, Node record}
//	sealed to the responder's index                  →    (the responder may now send in the session)
//
// Both are readable signed messages: that ties both identities to both ephemeral keys. Keys are the HKDF expansions of
// extract(X25519(ephemeral, ephemeral), salt = transcript of OpenSession ‖ transcript of SessionOpened hashed together with
// SHA-256) with the labels
//
//	"culvert 1 session i2r"       initiator to responder
//	"culvert 1 session r2i"       responder to initiator
//	"culvert 1 session exporter"  further secrets, expanded by label
//
// SessionOpened with index 0 and a zero ephemeral key says that the responder keeps no sessions: go on with signed messages.
// A session is replaced after an hour or 2^32 messages and ends a sixth of that time later, or with the certificate that it was
// opened under; it is collected after 10 idle minutes. The old session of a pair stays beside the new one until a third comes.
//
// # Cookie (first byte 6): 68 bytes, in answer to a signed message when its receiver is overloaded
//
//	 0      4  6, 1, 0, 0
//	 4      8  message ID of the message answered
//	12     24  nonce
//	36     32  XChaCha20-Poly1305 of the cookie 16: key SHA-256("culvert 1 cookie\x00" ‖ answerer's signing key), associated
//	           data = mac1 of the message answered
//
// The cookie is HMAC, keyed by a secret that is replaced every 120 s, over the asker's address 16 ‖ port 2. Its holder uses it
// for 120 s as key of mac2; the secret before the current one still counts.
//
// # Hint (first byte 7): 20 bytes, in answer to a sealed message whose index is not known
//
//	 0      4  7, 1, 0, 0
//	 4      8  index      as in the sealed message
//	12      8  counter    as in the sealed message
//
// # Punch packet (first byte 8): 44 bytes, between the two ends of a TunnelRequest, through their NATs
//
//	 0      1  type       8
//	 1      1  version    1
//	 2      1  flags      1 ask: wants an answer at once, as an answer never does ‖ 2 chosen
//	 3      1  reserved   0
//	 4      8  pair       by which the receiver finds the attempt
//	12      8  serial     a challenge, foreseen by nobody
//	20      8  echo       the serial last heard from the address that this is sent to; 0: nothing heard from there
//	28     16  HMAC, keyed by the sender's direction, over bytes 0 to 28
//
// requester's key 32 ‖ tunnel-node's key 32 ‖ pair to the tunnel-node 8 ‖ pair to the requester 8 = HKDF(Token,
// salt = requester's ID ‖ tunnel-node's ID, info = "culvert 1 punch").
//
// An echo shows its receiver that a path works only if it comes from the very address, to the very socket, to and from which
// that serial was sent, no more than 3 s ago. So a packet that a stranger records and sends from elsewhere brings him an answer
// of the same length, and no path. The requester says chosen on one path that works; the tunnel-node follows the first such
// packet that also echoes a serial of its own, and says chosen in every answer to one.
//
// # Reach probe (first byte 9): 20 bytes, what a super-node sends to show that it can reach who asked it by ProbeReach
//
//	0      4  9, 1, 0, 0
//	4     16  nonce      as in ProbeReach
//
// # Record: 174 to 896 bytes, stored, served and passed on as signed
//
//	  0     1  version    1
//	  1     1  table      Table
//	  2     1  flags      1 tombstone
//	  3     1  k          number of lookup keys, at most 8
//	  4    36  owner      ID
//	 40    36  signer     ID
//	 76     8  epoch      below 2^62, like the sequence
//	 84     8  sequence
//	 92     8  issued     ms since 1970
//	100     8  expires    ms since 1970, not before issued
//	108  32·k  lookup keys, hashes in the owner's domain
//	       2   length of the value
//	           value      MessagePack; of NodeInfo and EndDevice sealed: key epoch 4 ‖ nonce 12 ‖ AES-256-GCM ciphertext ‖
//	                      tag 16 under the domain key, associated data "culvert 1 value\x00" ‖ table ‖ owner
//	      64   signature  Ed25519 by the signer over "culvert 1 record\x00" ‖ everything before
//
// Of two records of one table and owner the one with the higher (epoch, sequence) holds.
//
// # MessagePack
//
// A payload or value is one array of its struct's fields in order (the structs in this package are the tables of fields), of
// nil, booleans, integers, strings, byte strings and arrays only: no maps, floats or extensions, at most 16 deep and 64
// elements an array, 1,200 bytes in all, nothing behind it. IDs are byte strings of 36, hashes and keys of 32, addresses of 6
// (IPv4 4 ‖ port 2), 18 (IPv6 16 ‖ port 2, never IPv4-mapped) or 0 (none). Elements that a later version appended to the array
// of a struct, also of one inside, are skipped. Lists on the wire are bounded so that what is allocated stays near what was sent:
// records by their least length, candidates and digest parts by 16, addresses by 8.
//
// An address of a super-node at port 443 or 80 is for streams alone (package carrier); the other ports take datagrams and TCP.
//
// # Rules of exchange
//
//   - What is malformed, stale, replayed, misaddressed or does not verify is dropped in silence and counted.
//   - A timestamp counts within 120 s of the receiver's clock. Message IDs are remembered for each sender, 1,024 of them; what
//     is forgotten early raises the sender's floor, and messages with a timestamp up to the floor are replays.
//   - A reply never causes a reply, but for the introduction: a receiver that lacks the sender's certificate answers a request
//     with GetNode, reply flag set, the request's message ID echoed, its payload the stranger's own ID; it is signed, and never
//     longer than the request. It is a hint: whoever did not ask that message ID ignores it, and nobody drops state for it. The
//     asker answers with Node, reply flag and message ID the same, to where it had sent its request, and asks again with a
//     fresh message ID. A Node with an ID to which no GetNode was sent is ignored. OpenSession brings its certificate along.
//   - A signed reply is not longer than its request, unless mac2 proved the asker's address. In a session a reply may fill a
//     datagram, at an address at which the session's peer has shown that it receives: where its opening was answered to, or
//     where it has answered a Ping. To any other, ports apart, at most three bytes go for each that came; a reply beyond that
//     is left out, and a Ping goes in its place, so that the question's repetition is answered.
//   - A request whose signature is right and whose time is wrong is answered with a signed Pong, not longer than the request,
//     limited by source prefix. Only an operator's Pong, to a message ID that is awaited, moves the reader's offset, and only to
//     a time at which that operator's record holds. Nobody sets a system's clock.
//   - A revoked node, and one of a banned domain, gets no answer but to GetRevocations, which is always asked in a signed message:
//     it is told of what ends itself and of nothing else, so that it can say why and close its tunnels.
//   - Every sending of a request has a fresh message ID; requests are idempotent, since an answer may be lost.
//   - A hint or a cookie answers a message ID, or a session's index and counter, that its reader has really sent, or is ignored.
//   - A new OpenSession with a timestamp before that of the sender's newest is dropped; a session opened by a peer is used for
//     sending only after a message in it has opened.
package protocol
