// Package rawtcp reads and writes TCP connections for pumps: without allocation, without a buffer while nothing comes, and
// on Linux without telling Go's scheduler of every system call.
//
// A socket of Go never blocks in its system calls, but the runtime does not know: it gets ready to hand the processor on at
// each of them, and its monitor wakes every 20 µs as long as calls take longer, as those of a pump do that moves 256 KB at
// once. Here the calls are made raw, with MSG_DONTWAIT, and only waiting goes through the runtime's poller. On other systems
// the connection's own methods are called.
//
// A Splice moves bytes from one connection to another in the same way without bringing them into user space; that Go's own
// is told of each call cost a relay a quarter of its time. A connection within this machine is not paced.
//
// TryWrite is for loops that must wait for nobody: it writes what the socket takes at once.
//
// Listen and Dial spare connections of this machine the calls that set up what they do not need.
package rawtcp
