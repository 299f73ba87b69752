// Package nodetest tries whole nodes against each other: operator, super-nodes, agents and devices on 127.0.0.1, most of them
// in the test's own process, and as processes of their own where one is killed. It has no code but tests.
//
//	harness_test.go   an operator, agents, devices; probe_test.go: one identity with a socket, to send what no agent sends
//	process_test.go   a node as a process of its own, for kill -9
//	stores_test.go    a super-node killed during stores; outage_test.go: super-nodes and the operator gone
//	migration_test.go operators added, rotated, lost and restored, with the mesh in use
//	refused_test.go   what people are told; wire_test.go, foreign_test.go: what is silent and counted
//	target_test.go    records of a hostile operator; token_test.go, keyfile_test.go: enrolment; revoked_test.go: the end
//	storm_test.go     mutated datagrams: 100,000 here, a million by `make storm`
//	reach_test.go     STUN, reach probes, and what an agent finds out about its network
//	streams_test.go   networks that let only streams out; webports_test.go: ports 443 and 80 of super-nodes
//	punched_test.go   a meeting by UDP; datagram_test.go: devices at UDP ports
//	domains_test.go   one daemon in a hundred domains; twins_test.go: two customers whose networks look the same
package nodetest
