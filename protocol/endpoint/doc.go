// Package endpoint is the step machine between a socket and the handlers: datagrams in, events and datagrams out.
//
// It owns no socket, no goroutine and no clock. A loop reads datagrams, gives each to Receive, hands a Request event to a
// handler, gives the answer to Reply, writes the Outbox, and calls Tick when Next says so. Randomness is injected: the same
// bytes and the same times replay the same run.
//
//	socket → Receive → Event{Request}  → handler → Reply → Outbox → socket
//	Call ──→ Outbox   Event{CallDone}  ← Receive
//	                  Event{CallFailed} ← Tick
//
// A datagram may hold several messages of a session: after Receive, More brings one after the other, each an event of its own. An
// Outbox packs them in the same way: what is put in between two calls of Packets shares datagrams. A query in a session, from
// Receive to the packet with its answer, allocates nothing.
//
// One endpoint serves all identities of a process. The receiver ID of a signed message, or the index of a sealed one, chooses
// the identity; certificates, sessions, replay tables and observed addresses belong to a pair (identity, peer), and nothing
// of one identity shows in another.
//
// # Sessions
//
// With sessions on, a call opens a session first and waits in a bounded queue. A peer without sessions says so in its
// SessionOpened (index 0): one round trip, no time-out, remembered for ten minutes; then everything goes in signed messages.
// A session that the peer has lost is found out by its hint, or by two unanswered attempts: a new one is opened beside it, and
// the calls under way are sent again on the new one as soon as it stands. A responder sends on a new session only once a
// packet in it has opened, so that a replayed OpenSession displaces nothing.
// Send opens no session: it uses what there is, and is kept for a few seconds in case its peer must first be told who sends.
//
// A peer may move while a session lasts. Answers go to where their questions came from; but until the peer has answered
// something that was sent to that host, no more than three bytes go there for each that came, and a Ping in place of a longer
// answer. A peer that is there answers it, and has its own answer when it asks again.
//
// # Who may talk
//
// Any node that the identity's Trust certifies and Revoked does not name, if Admit lets it; which domain may ask what is the
// handlers' affair. What is refused is dropped in silence and counted by its Reason.
//
// # Load
//
// Every signed message passes, in this order: shape, receiver, mac1, revocation, replay (a look), load (a cookie is asked for
// above Limits.PublicKeyRate), certificate, signature, time, replay (taken in), payload. Unsolicited answers are dropped before
// any public-key work. Under Press a cookie is asked for at once. Messages in a session pass none of that: they are what is shed
// last. Whatever is sent unasked (hints, GetNode, cookies, the Pong to a stale message) is limited by source
// prefix (/24, /56) and never longer than what it answers.
package endpoint
