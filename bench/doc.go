// Command bench measures culvert beside what the machine gives without it and beside what others make of it: round trips of messages
// (packages messages, echo), tunnels (packages tunnels, load), and how cost grows.
//
//	make bench            builds bin/culvert, then go run ./bench -bin bin/culvert; half an hour at most
//	make bench-quick      the most important cells, a minute at most; keeps nothing
//
// Beside them run the programs that Debian ships and pairs in Go (package peers). One that is not installed is named, with its
// package, and the rest goes on.
//
// Everything stays on 127.0.0.1. The bench starts itself again as servers, nodes and device (package proc), so that what stands for
// two nodes shares no heap and no scheduler. -bin is asked for its version only: the nodes here are the same packages, without
// the daemon around them.
//
// The cells of a table take turns, round by round, and a ratio is the median of the rounds' ratios: on a machine with other
// work the ratios count, the figures vary by ±20 %. What is wanted is printed beside what was got, but no figure passes or
// fails; only work that was not done is an error.
//
// The echo through tunnels is measured twice: as the system places the processes, and, where there are two cores to choose from, as the
// mean over all placements on two. What is wanted is wanted of the second, where there is one; both are printed.
//
// The results are printed, and kept as bench/results/DATE.json with pictures in bench/results/DATE; bench/results/README.md lists
// the runs, newest first. What is worse than in the newest run before, on as many cores, by more than the noise is printed and kept, too.
// Commit them also when they got worse.
//
// One cell, with CPU and heap profiles of each process in a folder:
//
//	go run ./bench -alone -sections messages -only 'Ping in a session, 1 peer' -profile /tmp/profile
//	go tool pprof -top /tmp/profile/messages-node.cpu
package main
