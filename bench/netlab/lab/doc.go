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
// It needs root, nft and Linux. There is no emulation of loss or delay here.
package lab
