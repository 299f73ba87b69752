// Package portmap has the router open the node's port number, TCP and UDP, towards the internet: by UPnP IGD versions 1 and 2,
// NAT-PMP and PCP, and for IPv6 by PCP and by UPnP pinholes.
//
// # How a mapping comes to be
//
//	Gateways → probe all protocols side by side → the first that answers opens both ports → Verify → Mappings
//
// A probe changes nothing at the router. One protocol at a time opens: to most routers a mapping that two protocols asked
// for is one and the same, and giving up the second would end the first. One that refuses, or gives an external address that
// is none (private, 100.64.0.0/10, unspecified, missing: a carrier's NAT), leaves it to the next that answered. What a router
// says is not believed: Mappings holds what Verify has seen to work; one that Verify finds unreached three times gives way
// to the next protocol. Verify is asked about TCP where it is mapped, and UDP is believed with it: one router, one address.
//
// Leases are an hour at most and renewed at half of their life. Every minute the router is asked, cheaply, whether it still
// knows (NAT-PMP: its address and epoch, PCP: MAP, UPnP: GetSpecificPortMappingEntry, UpdatePinhole), and sooner when it
// announces itself, as routers do that have started: then everything is opened anew. A router that knows permanent leases
// only (UPnP 725, 402) gives those, and they are renewed like others. Close deletes everything, within the time it is given.
//
// # Protocols
//
// NAT-PMP (RFC 6886) and PCP (RFC 6887) are datagrams to UDP port 5351 of the gateway, from the address that is mapped:
//
//	NAT-PMP  0 op | → 0 op+128 result 2 epoch 4 address 4                                      op 0: external address
//	         0 op 0 0 inside 2 outside 2 life 4 | → 0 op+128 result 2 epoch 4 inside 2 outside 2 life 4   op 1: UDP, 2: TCP
//	PCP      2 op 0 0 life 4 own address 16 | → 2 op+128 0 result life 4 epoch 4 zero 12      op 0: ANNOUNCE
//	         … nonce 12 protocol 1 zero 3 inside 2 outside 2 outside address 16                 op 1: MAP, both ways
//
// Multi-byte numbers are big-endian, lives and epochs seconds. A PCP nonce is made of Config.Secret, so that a node that was
// killed can renew and delete what it left behind. Other answers than to our own question, nonce and port are as none.
//
// UPnP: SSDP M-SEARCH to the gateway and to the multicast group at once, the first acceptable answer counts; then the device
// description and SOAP, by goupnp's typed clients over our own HTTP client. Answers come from anybody on the LAN, so:
// IPv4 from the gateway alone and with a LOCATION at that address; IPv6 from the link, with a LOCATION on it; addresses are
// literal; no proxy, no redirect, 3 s, 256 KiB, no compression; every connection goes to the gateway (IPv6: the link) or
// nowhere. The internal client is always our own address, and a port that the router has given to another is left to it.
//
// # Errors
//
// Nothing here ends a node. Status says for each router and protocol what came of it.
package portmap
