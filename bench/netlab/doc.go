// Package netlab shows that the built culvert binary works between real NATs
// and with real devices, on one machine. `make netlab` builds the binary and
// runs the tests here as root, with the build tag netlab and CULVERT_BIN set;
// they fail, and never skip, where a tool is missing.
//
//	operator 45.11.0.2   super-1 45.22.0.2   super-2 45.33.0.2
//	      └────────────┬──────┴───────┬────────────┘ core
//	                   │              │                        │
//	branch, NAT 45.55.0.2     home, NAT 45.66.0.2     office, open 45.77.0.2
//	 lan0 192.168.50.0/24      lan0 192.168.1.0/24     lan0 45.44.0.0/24
//	   branch-desk   agent       home-desk  user         office-desk agent
//	   branch-laptop user                                plotter     9100
//	   printer       631, 9100
//	 lan1 192.168.60.0/24
//	   annex-printer 9100, 9443
//	   annex-impostor 9443 with a key that is not the registered one
//
// Super-nodes belong to a domain of their own, so what they can read of the
// other domain's records is what a foreign super-node can read.
//
// Other tests build stages of their own: an operator, super-1 and super-2 as
// above, and the sites that the test is about. CULVERT_NETLAB_FULL=1 makes them
// long: a film of a minute, the conformance test by every route, 1,000 tunnels
// between customers whose networks look the same, more faults.
//
// The parts: lab makes namespaces, routers and captures; device the printers;
// mesh runs the binary; leak looks for what must not be readable; matrix opens
// tunnels between sites of every kind: a sample of them here, all of them by
// `make netlab-full`, which keeps its results.
package netlab
