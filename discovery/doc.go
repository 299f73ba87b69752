// Package discovery answers three questions about the networks that this machine is on, without privileges: where am I
// (Gateways, Locate, Watcher), who has this address (Neighbour, OnLink), and where is the device with this MAC (Finder).
//
// # Location IDs
//
//	ID = HMAC-SHA256(location secret, "culvert location 1\x00" ‖ gateway MAC 6 ‖ prefix length 1 ‖ masked prefix address 16)
//
// The prefix is the interface's on-link prefix that holds the gateway; an IPv4 prefix keeps its own length (0–32) and
// its address is written v6-mapped. Where no prefix of the interface holds the gateway the gateway's own host prefix is taken, so
// that all machines at the place agree. A link-local IPv6 gateway goes with the interface's unique local prefix (fc00::/7) if it
// has one, else with fe80::/64: a global prefix would change with every renumbering by the provider, and the ID with it.
// There is one location for each interface: IPv4's where the interface has an IPv4 gateway whose MAC is known, else IPv6's.
// A gateway behind an interface without link-layer addresses (a layer 3 VPN) has the zero MAC in its ID; any other gateway whose
// MAC is not known gives no location. A location is a hint about where to look and never a credential.
//
// # How a MAC is learnt
//
// A datagram to UDP port 9 makes the kernel resolve the address; the answer is then read from its neighbour table. Where raw
// sockets are allowed (Linux, CAP_NET_RAW) ARP requests go out instead, and their answers confirm what the table says; where
// they are not, nothing is said about it. Whatever the way, a device counts as found only when the kernel's own
// table has it, because that table decides where a later connection's frames go.
package discovery
