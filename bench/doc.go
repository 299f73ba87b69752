// Command bench measures culvert beside what the machine gives without it: round trips of messages beside plain and bare
// encrypted UDP echoes (package messages), tunnels beside plain TCP (packages load and
// tunnels).
//
//	make bench            builds bin/culvert, then go run ./bench -bin bin/culvert
//
// Everything stays on 127.0.0.1 and runs from one executable that starts itself again as servers, nodes and device (package
// proc), so that what stands for two nodes shares no heap and no scheduler. -bin is asked for its version only: the nodes
// here are the same packages, without the daemon around them.
//
// The cells of a table take turns, round by round, and a ratio is the median of the rounds' ratios: on a machine with other
// work the ratios count, the figures vary by ±20 %. No figure passes or fails; only work that was not done is an error.
//
// The results are printed, and kept as bench/results/DATE.json; the newest has the last name. Commit them also when they
// got worse.
package main
