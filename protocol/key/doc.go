// Package key holds the two key pairs of a node and the files they live in.
//
// A node has an Ed25519 pair (RFC 8032) that signs and an X25519 pair (RFC 7748) that others seal to. Private halves are
// opaque: they print as "redacted", compare in constant time and leave the package only through Sign, Open-side key
// agreement and the key file.
//
// Key file, 0600 (a file that others may read is refused):
//
//	culvert key 1\n
//	signing <64 hex digits: Ed25519 seed>\n
//	sealing <64 hex digits: X25519 private key>\n
//
// Ed25519 keys of small order verify signatures that nobody made; CheckPublic refuses them (and every key that is not a
// canonical point), and every certificate passes through it.
package key
