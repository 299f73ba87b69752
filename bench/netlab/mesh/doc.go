// Package mesh runs the built culvert binary on a lab's hosts: an operator,
// super-nodes and agents, each with a data folder of its own, driven by the
// command line that scripts rely on.
package mesh
