// Package enrol is what a node and the operator say to each other over HTTPS: the join token, enrolment, renewal and the
// trust bundle. Both sides share these types; neither sockets nor clocks are in here.
//
// A join token is text for people to copy:
//
//	culvert-join-1-BASE64URL(root 32 ‖ secret 32 ‖ HTTPS address, host:port ‖ checksum 4)
//
// root is SHA-256 of the root's Ed25519 key: the token alone is enough to recognise the operator, no public CA is asked.
// secret is 256 bits of randomness; the operator stores only [SecretHash] of it. checksum is the start of SHA-256 over all
// before it, so that a token that was cut off in copying is told from a wrong one.
//
// The server's certificate chain is root (Ed25519, self-signed) → operator (Ed25519) → leaf (P-256); [VerifyServer] accepts
// it if its last certificate holds the root key that the token names and the leaf names the host that was dialled.
//
//	POST /v1/enroll  EnrollRequest → EnrollResponse   the proof shows that the sender holds the key it registers
//	POST /v1/renew   RenewRequest  → EnrollResponse   signed by the node's key, also an expired one for another 90 days
//	GET  /v1/bundle?since=N        → Bundle           revocations numbered higher than N
//
// Every refusal is {"error": Error} and maps to one of the sentinels here, both ways.
//
// Domain keys are handed out before they are used: each says from when on it seals ([Secrets.At]), so that members learn a
// key that replaces one a revoked node held before they meet values sealed under it.
package enrol
