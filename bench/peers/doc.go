// Package peers runs what culvert is compared with, each for the length of a benchmark and with configuration and keys of its
// own in a temporary folder. No service of the system is touched; everything listens on 127.0.0.1 at free ports.
//
//	tunnels      ssh -L (two ciphers), a pair of stunnel4, a pair of haproxy, each from Debian;
//	             a pair with crypto/tls, one with yamux over it, one with quic-go, from this repository
//	round trips  coturn's STUN Binding by UDP, memcached's get by UDP, from Debian
//
// All tunnels have TLS_AES_128_GCM or better, keys on both sides that the other side checks, and two processes. A program that is
// not installed is named in Missing with the package it comes in; the rest runs.
//
// A program runs beneath a process of the benchmark (part “peers-program”), which ends it also when the benchmark is killed.
package peers
