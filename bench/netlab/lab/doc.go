// Package lab builds an internet on one Linux machine out of network
// namespaces: a core that routes between public networks, hosts that stand in
// it openly, and sites whose router translates addresses the way a real one
// does.
//
//	                 core (no private addresses pass)
//	      ┌─────────────┬──────┴──────┬───────────────┐
//	45.22.0.2/24   45.33.0.2/24   wan of a router  wan of a router
//	 a public host  a public host  │ nft rules of    │
//	                               │ its Kind        │
//	                              lan0  lan1        lan0
//	                              │ │    │          │ │
//	                            hosts  hosts       hosts
//
// Nothing touches the machine's own network: namespaces are unshared, held
// open by a thread and a descriptor only, and vanish with the process. Every
// program is started from the thread that stands in its host's namespace and
// dies with that thread, so nothing outlives a lab, however it ends.
//
// A router's Kind says how it translates, filters and maps ports; a site may
// stand behind another one, as homes stand behind a carrier's NAT:
//
//	core ── wan carrier lan0 100.64.0.1/10 ── wan router lan0 ── host
//
// What happens to networks can be had: a NAT forgets its flows (FlushNAT), a
// router comes back with another address (Reboot), cables are pulled (LinkDown),
// packets are lost (Loss), a laptop changes sites (Move). IPv6 is where a site
// or host is given such addresses. A site's Path makes its way to the internet
// long and no faster than a rate: by a token bucket, and by a host in user
// space that holds each frame up.
//
// It needs Linux and nft, for a Path ethtool, for the kinds that map ports miniupnpd, and root:
// that of a user namespace of its own will do (unshare -Urmn).
package lab
